/* What compilers and processors differ in. */

#ifndef SPALIPY_ASTRO_PORTABLE_H
#define SPALIPY_ASTRO_PORTABLE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Helpers become part of each function that calls them: only so are they compiled for the processor
 * that the function is compiled for, and with the constants that it gives them.
 */
#if defined(_MSC_VER) && !defined(__clang__)
#define INLINE static __forceinline
#define RESTRICT __restrict
#elif defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define RESTRICT restrict
#else
#define INLINE static inline
#define RESTRICT restrict
#endif

/* Begins a line of the cache. */
#if defined(_MSC_VER) && !defined(__clang__)
#define LINE_ALIGNED __declspec(align(64))
#elif defined(__GNUC__)
#define LINE_ALIGNED __attribute__((aligned(64)))
#else
#define LINE_ALIGNED
#endif

/*
 * Compiles a function twice, once for processors with AVX2; which one runs is found when the module
 * is loaded. Both give the same bits, as nothing is contracted and no sum reordered. It takes
 * indirect functions, which glibc has; the sanitizers do not work with them. With more clones there
 * is one for AVX-512, too: for the loops that gain by it, as it takes time to compile.
 */
#if defined(__linux__) && defined(__x86_64__) && defined(__GLIBC__) \
    && !defined(__SANITIZE_ADDRESS__) && !defined(SPALIPY_ASTRO_NO_CLONES) \
    && ((!defined(__clang__) && __GNUC__ >= 6) || (defined(__clang__) && __clang_major__ >= 14))
#define CLONES __attribute__((target_clones("avx2", "default")))
#if (!defined(__clang__) && __GNUC__ >= 12) || (defined(__clang__) && __clang_major__ >= 17)
#define MORE_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define MORE_CLONES CLONES
#endif
#else
#define CLONES
#define MORE_CLONES
#endif

/* Asks for memory that will soon be read. */
#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

/* Single values that are added up side by side: every compiler makes vector instructions of it. */
#define LANES 8

/* What a function of this library returns. */
enum { DONE = 0, NO_MEMORY = 1, OUT_OF_BOUNDS = 2 };

#endif
