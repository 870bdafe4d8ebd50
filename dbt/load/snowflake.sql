-- Load the three parquet files of the folder data_dir (an absolute path) into the schema raw:
--   snow sql --filename dbt/load/snowflake.sql --database HM --variable data_dir=$PWD
create schema if not exists raw;

create or replace table raw.articles (
    article_id varchar, product_code varchar, product_type_no bigint, product_group_name varchar,
    graphical_appearance_no bigint, colour_group_code bigint, perceived_colour_value_id bigint,
    perceived_colour_master_id bigint, department_no bigint, index_code varchar,
    index_group_no bigint, section_no bigint, garment_group_no bigint
);
create or replace table raw.customers (
    customer_id varchar, fn double, active double, club_member_status varchar,
    fashion_news_frequency varchar, age double, postal_code varchar
);
create or replace table raw.transactions_train (
    t_dat date, customer_id varchar, article_id varchar, price double, sales_channel_id bigint
);
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
