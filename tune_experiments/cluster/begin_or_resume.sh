#!/bin/sh
# Begins a search on the cluster that runs this, or goes on with it where an earlier try was cut off:
#   begin_or_resume.sh STORAGE_URI NAME FLAGS_OF_A_NEW_ONE...
# A killed search holds its place for two minutes more, in which another is refused (exit code 2): that is waited for.
storage=$1 name=$2
shift 2
has_plan="import sys; from tune_experiments.remote_folder import RemoteFolder
sys.exit(RemoteFolder.at(sys.argv[1]).child(sys.argv[2]).size('search.yaml') is None)"
for seconds in 30 30 30 30 30 0; do
    if python -c "$has_plan" "$storage" "$name"; then
        python -m tune_experiments.search --address auto --storage "$storage" --resume "$name"
    else
        python -m tune_experiments.search --address auto --storage "$storage" --name "$name" "$@"
    fi
    code=$?
    [ $code -eq 2 ] || break
    sleep $seconds
done
exit $code
