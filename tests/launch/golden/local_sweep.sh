#!/bin/sh
# small-mlp, written by reprise VERSION. A line starts a run, or goes on with it.
code=0
/opt/reprise run /work/out/spec.yaml --data /work --out /work/runs/small-mlp-2ff8bf42 --set seed=1 --set resources.ranks=1 || code=$?
[ $code != 20 ] || exit 20
/opt/reprise run /work/out/spec.yaml --data /work --out /work/runs/small-mlp-50c90f20 --set seed=2 --set resources.ranks=1 || code=$?
[ $code != 20 ] || exit 20
exit $code
