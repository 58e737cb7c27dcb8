/*
 * Short vectors of a type REAL, under names NAME(...); included once for each type.
 *
 * GCC and clang know them as types, which they translate to the instructions of every processor;
 * elsewhere they are loops. Both give the same bits.
 */

#if defined(__GNUC__)

typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL))));
typedef REAL NAME(eight) __attribute__((vector_size(8 * sizeof(REAL))));

#define DEFINE_VECTOR(TYPE) \
    INLINE NAME(TYPE) NAME(TYPE##_add)(NAME(TYPE) a, NAME(TYPE) b) { return a + b; } \
    INLINE NAME(TYPE) NAME(TYPE##_subtract)(NAME(TYPE) a, NAME(TYPE) b) { return a - b; } \
    INLINE NAME(TYPE) NAME(TYPE##_multiply)(NAME(TYPE) a, NAME(TYPE) b) { return a * b; } \
    INLINE NAME(TYPE) NAME(TYPE##_scale)(REAL a, NAME(TYPE) b) { return a * b; }

#else

typedef struct { REAL lane[4]; } NAME(four);
typedef struct { REAL lane[8]; } NAME(eight);

#define DEFINE_OPERATION(TYPE, OPERATION, FIRST, EXPRESSION) \
    INLINE NAME(TYPE) NAME(TYPE##_##OPERATION)(FIRST a, NAME(TYPE) b) \
    { \
        NAME(TYPE) out; \
        for (size_t l = 0; l < sizeof(out) / sizeof(REAL); l++) \
            out.lane[l] = EXPRESSION; \
        return out; \
    }
#define DEFINE_VECTOR(TYPE) \
    DEFINE_OPERATION(TYPE, add, NAME(TYPE), a.lane[l] + b.lane[l]) \
    DEFINE_OPERATION(TYPE, subtract, NAME(TYPE), a.lane[l] - b.lane[l]) \
    DEFINE_OPERATION(TYPE, multiply, NAME(TYPE), a.lane[l] * b.lane[l]) \
    DEFINE_OPERATION(TYPE, scale, REAL, a * b.lane[l])

#endif

DEFINE_VECTOR(four)
DEFINE_VECTOR(eight)
#undef DEFINE_VECTOR
#undef DEFINE_OPERATION

INLINE NAME(four) NAME(four_load)(const REAL *from)
{
    NAME(four) out;
    memcpy(&out, from, sizeof(out));
    return out;
}

INLINE NAME(eight) NAME(eight_load)(const REAL *from)
{
    NAME(eight) out;
    memcpy(&out, from, sizeof(out));
    return out;
}

INLINE void NAME(four_store)(REAL *to, NAME(four) from)
{
    memcpy(to, &from, sizeof(from));
}

INLINE void NAME(eight_store)(REAL *to, NAME(eight) from)
{
    memcpy(to, &from, sizeof(from));
}
