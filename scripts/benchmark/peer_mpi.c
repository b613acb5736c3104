/* peer_mpi.c - MPI_Allreduce of N fp32 gradients and a full update; for `scripts/bench ranks`.
 *
 *   mpirun -n R peer_mpi N ROUNDS */
#include "peer.h"

#include <mpi.h>

int main(int argc, char **argv)
{
    int rank;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc != 3) MPI_Abort(MPI_COMM_WORLD, 2);
    struct job job = job_new(argv[1], argv[2]);
    for (int round = 0; round < job.rounds; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double begun = clock_now();
        MPI_Allreduce(MPI_IN_PLACE, job.g, (int)job.n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        double reduced = clock_now();
        update(&job);
        if (rank == 0) say_round(reduced - begun, clock_now() - reduced);
        for (size_t i = 0; i < job.n; i++) job.g[i] = 1e-3f;
    }
    job_free(&job);
    MPI_Finalize();
    return 0;
}
