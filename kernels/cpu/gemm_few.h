/* gemm_few.h - private to gemm*.c: products of few rows. */
#ifndef RP_GEMM_FEW_H
#define RP_GEMM_FEW_H

#include "cpu/gemm.h"
#include "cpu/vec.h"

enum { RP_GEMM_FEW_ROWS = 4 };

/* Runs the whole product where that is the faster way; false: nothing was done. */
bool RP_ISA_NAME(rp_gemm_few)(struct rp_cpu *cpu, const struct rp_gemm *gemm);

#endif
