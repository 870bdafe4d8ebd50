#!/usr/bin/env bash
# Load the three parquet files of a folder into the tables of PostgreSQL's schema raw, all or none:
#   bash dbt/load/postgres.sh DATA_DIR
# psql and dbt find the server in PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
set -euo pipefail
export DATA_DIR=${1:?usage: bash dbt/load/postgres.sh DATA_DIR}

(cd "$(dirname "$0")/.." && dbt --quiet run-operation make_raw_tables --target postgres)

export AS_CSV='
import os, sys, duckdb
table, columns = sys.argv[1:]
file = duckdb.read_parquet(os.path.join(os.environ["DATA_DIR"], table))
file.select(columns).to_csv("/dev/stdout", header=False)'

columns_of="select string_agg(column_name, ', ' order by ordinal_position) from information_schema.columns"
for table in articles customers transactions_train; do
  columns=$(psql --no-psqlrc --tuples-only --no-align --command "$columns_of
    where table_schema = 'raw' and table_name = '$table'")
  echo "truncate raw.$table;"
  echo "\\copy raw.$table ($columns) from program 'python -c \"\$AS_CSV\" $table \"$columns\"' (format csv)"
  echo "analyze raw.$table;"
done | psql --quiet --no-psqlrc --single-transaction --set ON_ERROR_STOP=1
