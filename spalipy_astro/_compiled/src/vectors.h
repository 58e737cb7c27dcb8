/*
 * Short vectors of a type REAL, under names NAME(...); included once for each type.
 *
 * GCC and clang know those of up to 32 bytes as types, which they translate to the instructions of
 * every processor; elsewhere they are loops. Longer ones are two short ones. All give the same bits.
 */

#if defined(__clang__)
#define SHUFFLE(A, B, I, J, K, L) __builtin_shufflevector(A, B, I, J, K, L)
#elif defined(__GNUC__)
#define SHUFFLE(A, B, I, J, K, L) __builtin_shuffle(A, B, (NAME(places)){ I, J, K, L })
#endif

#if defined(__GNUC__)
typedef INTEGER NAME(places) __attribute__((vector_size(4 * sizeof(REAL))));
#define SHORT_VECTOR(TYPE, COUNT) \
    typedef REAL NAME(TYPE) __attribute__((vector_size(COUNT * sizeof(REAL)))); \
    INLINE NAME(TYPE) NAME(TYPE##_add)(NAME(TYPE) a, NAME(TYPE) b) { return a + b; } \
    INLINE NAME(TYPE) NAME(TYPE##_subtract)(NAME(TYPE) a, NAME(TYPE) b) { return a - b; } \
    INLINE NAME(TYPE) NAME(TYPE##_multiply)(NAME(TYPE) a, NAME(TYPE) b) { return a * b; } \
    INLINE NAME(TYPE) NAME(TYPE##_scale)(REAL a, NAME(TYPE) b) { return a * b; } \
    LOAD_AND_STORE(TYPE)
#else
#define SHORT_OPERATION(TYPE, COUNT, OPERATION, FIRST, EXPRESSION) \
    INLINE NAME(TYPE) NAME(TYPE##_##OPERATION)(FIRST a, NAME(TYPE) b) \
    { \
        NAME(TYPE) out; \
        for (int l = 0; l < COUNT; l++) \
            out.lane[l] = EXPRESSION; \
        return out; \
    }
#define SHORT_VECTOR(TYPE, COUNT) \
    typedef struct { REAL lane[COUNT]; } NAME(TYPE); \
    SHORT_OPERATION(TYPE, COUNT, add, NAME(TYPE), a.lane[l] + b.lane[l]) \
    SHORT_OPERATION(TYPE, COUNT, subtract, NAME(TYPE), a.lane[l] - b.lane[l]) \
    SHORT_OPERATION(TYPE, COUNT, multiply, NAME(TYPE), a.lane[l] * b.lane[l]) \
    SHORT_OPERATION(TYPE, COUNT, scale, REAL, a * b.lane[l]) \
    LOAD_AND_STORE(TYPE)
#endif

#define LOAD_AND_STORE(TYPE) \
    INLINE NAME(TYPE) NAME(TYPE##_load)(const REAL *from) \
    { \
        NAME(TYPE) out; \
        memcpy(&out, from, sizeof(out)); \
        return out; \
    } \
    INLINE void NAME(TYPE##_store)(REAL *to, NAME(TYPE) from) { memcpy(to, &from, sizeof(from)); }

#define LONG_OPERATION(OPERATION) \
    INLINE NAME(eight) NAME(eight_##OPERATION)(NAME(eight) a, NAME(eight) b) \
    { \
        NAME(eight) out; \
        out.low = NAME(four_##OPERATION)(a.low, b.low); \
        out.high = NAME(four_##OPERATION)(a.high, b.high); \
        return out; \
    }

SHORT_VECTOR(four, 4)

#if LANE_BYTES == 4
SHORT_VECTOR(eight, 8)
#else
typedef struct { NAME(four) low, high; } NAME(eight);
LONG_OPERATION(add)
LONG_OPERATION(subtract)
LONG_OPERATION(multiply)

INLINE NAME(eight) NAME(eight_scale)(REAL a, NAME(eight) b)
{
    NAME(eight) out;
    out.low = NAME(four_scale)(a, b.low);
    out.high = NAME(four_scale)(a, b.high);
    return out;
}

INLINE NAME(eight) NAME(eight_load)(const REAL *from)
{
    NAME(eight) out;
    out.low = NAME(four_load)(from);
    out.high = NAME(four_load)(from + 4);
    return out;
}

INLINE void NAME(eight_store)(REAL *to, NAME(eight) from)
{
    NAME(four_store)(to, from.low);
    NAME(four_store)(to + 4, from.high);
}
#endif

#if defined(__GNUC__)
/*
 * Sums over the lanes of four vectors, half to half: (0 + 2) + (1 + 3). Pairs are those that take the
 * fewest instructions.
 */
INLINE NAME(four) NAME(four_sums)(NAME(four) a, NAME(four) b, NAME(four) c, NAME(four) d)
{
#if LANE_BYTES == 4
    const NAME(four) one = SHUFFLE(a, b, 0, 1, 4, 5) + SHUFFLE(a, b, 2, 3, 6, 7);
    const NAME(four) two = SHUFFLE(c, d, 0, 1, 4, 5) + SHUFFLE(c, d, 2, 3, 6, 7);
    return SHUFFLE(one, two, 0, 2, 4, 6) + SHUFFLE(one, two, 1, 3, 5, 7);
#else
    const NAME(four) one = SHUFFLE(a, c, 0, 1, 4, 5) + SHUFFLE(a, c, 2, 3, 6, 7);
    const NAME(four) two = SHUFFLE(b, d, 0, 1, 4, 5) + SHUFFLE(b, d, 2, 3, 6, 7);
    return SHUFFLE(one, two, 0, 4, 2, 6) + SHUFFLE(one, two, 1, 5, 3, 7);
#endif
}

/* Exchange rows and columns. */
INLINE void NAME(four_transpose)(NAME(four) *v)
{
    const NAME(four) a = SHUFFLE(v[0], v[1], 0, 1, 4, 5), b = SHUFFLE(v[2], v[3], 0, 1, 4, 5);
    const NAME(four) c = SHUFFLE(v[0], v[1], 2, 3, 6, 7), d = SHUFFLE(v[2], v[3], 2, 3, 6, 7);
    v[0] = SHUFFLE(a, b, 0, 2, 4, 6);
    v[1] = SHUFFLE(a, b, 1, 3, 5, 7);
    v[2] = SHUFFLE(c, d, 0, 2, 4, 6);
    v[3] = SHUFFLE(c, d, 1, 3, 5, 7);
}
#undef SHUFFLE
#else
INLINE NAME(four) NAME(four_sums)(NAME(four) a, NAME(four) b, NAME(four) c, NAME(four) d)
{
    const NAME(four) from[4] = { a, b, c, d };
    NAME(four) out;
    for (int k = 0; k < 4; k++)
        out.lane[k] = (from[k].lane[0] + from[k].lane[2]) + (from[k].lane[1] + from[k].lane[3]);
    return out;
}

INLINE void NAME(four_transpose)(NAME(four) *v)
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++) {
            const REAL value = v[i].lane[j];
            v[i].lane[j] = v[j].lane[i];
            v[j].lane[i] = value;
        }
}
#endif

#undef SHORT_VECTOR
#undef SHORT_OPERATION
#undef LOAD_AND_STORE
#undef LONG_OPERATION
