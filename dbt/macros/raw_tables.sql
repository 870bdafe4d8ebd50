{#- dbt run-operation make_raw_tables: the tables of the schema raw, with the columns of sources.yml, for the
    databases into which dbt/load/ brings the files. Snowflake's COPY passes over files that a table has had
    already, so there the tables are made anew. -#}
{% macro make_raw_tables() %}
  {%- set create = 'create or replace table' if target.type == 'snowflake' else 'create table if not exists' -%}
  {%- set types = {'double': type_double(), 'timestamp': type_datetime()} -%}
  {% do run_query('create schema if not exists raw') %}
  {% for source in graph.sources.values() %}
    {%- set columns = [] -%}
    {%- for column in source.columns.values() -%}
      {%- do columns.append(column.name ~ ' ' ~ types.get(column.data_type, column.data_type)) -%}
    {%- endfor -%}
    {% do run_query(create ~ ' raw.' ~ source.name ~ ' (' ~ columns | join(', ') ~ ')') %}
  {% endfor %}
  {% do run_query('commit') if target.type == 'postgres' %}
{% endmacro %}
