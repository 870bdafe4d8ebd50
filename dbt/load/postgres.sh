#!/usr/bin/env bash
# Load the three parquet files of a folder into the tables of PostgreSQL's schema raw, all or none:
#   bash dbt/load/postgres.sh DATA_DIR
# psql finds the server in PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE.
set -euo pipefail
export DATA_DIR=${1:?usage: bash dbt/load/postgres.sh DATA_DIR}

articles="article_id text, product_code text, product_type_no bigint, product_group_name text,
  graphical_appearance_no bigint, colour_group_code bigint, perceived_colour_value_id bigint,
  perceived_colour_master_id bigint, department_no bigint, index_code text,
  index_group_no bigint, section_no bigint, garment_group_no bigint"
customers="customer_id text, fn double precision, active double precision, club_member_status text,
  fashion_news_frequency text, age double precision, postal_code text"
transactions_train="t_dat date, customer_id text, article_id text, price double precision,
  sales_channel_id bigint"

export AS_CSV='
import os, sys, duckdb
table, columns = sys.argv[1:]
file = duckdb.read_parquet(os.path.join(os.environ["DATA_DIR"], table))
file.select(columns).to_csv("/dev/stdout", header=False)'

load() { # table, columns with their types
  local names
  names=$(sed -E 's/ (text|bigint|date|double precision)//g' <<< "$2" | tr -d '\n')
  echo "create table if not exists raw.$1 ($2);"
  echo "truncate raw.$1;"
  echo "\\copy raw.$1 ($names) from program 'python -c \"\$AS_CSV\" $1 \"$names\"' (format csv)"
  echo "analyze raw.$1;"
}

{
  echo "create schema if not exists raw;"
  load articles "$articles"
  load customers "$customers"
  load transactions_train "$transactions_train"
} | psql --quiet --no-psqlrc --single-transaction --set ON_ERROR_STOP=1
