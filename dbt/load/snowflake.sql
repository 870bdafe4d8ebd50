-- Load the three parquet files of the folder data_dir (an absolute path) into the tables of the schema raw:
--   (cd dbt && dbt run-operation make_raw_tables --target snowflake)
--   snow sql --filename dbt/load/snowflake.sql --database HM --variable data_dir=$PWD
create or replace stage raw.files;

put 'file://&{data_dir}/articles' @raw.files auto_compress = false overwrite = true;
put 'file://&{data_dir}/customers' @raw.files auto_compress = false overwrite = true;
put 'file://&{data_dir}/transactions_train' @raw.files auto_compress = false overwrite = true;

copy into raw.articles from @raw.files/articles
    file_format = (type = parquet) match_by_column_name = case_insensitive;
copy into raw.customers from @raw.files/customers
    file_format = (type = parquet) match_by_column_name = case_insensitive;
copy into raw.transactions_train from @raw.files/transactions_train
    file_format = (type = parquet) match_by_column_name = case_insensitive;
