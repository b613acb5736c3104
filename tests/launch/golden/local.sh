#!/bin/sh
# small-mlp, written by reprise VERSION. A line starts a run, or goes on with it.
exec /opt/reprise run /work/out/spec.yaml --data /work --out /work/runs/small-mlp-215d523c --set resources.ranks=2 --set resources.ranks=2
