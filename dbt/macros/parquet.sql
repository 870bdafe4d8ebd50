{#- A model that the next stage reads as parquet: one file on duckdb, a folder of part files on spark.

    dbt-duckdb's `external` materialization would build a table first, and write a row of nulls for
    an empty result. Here the query's rows go straight into a file in prep/transform/plugin.py, which
    checks them and publishes all files together. -#}
{% materialization parquet, default %}
  {%- set location = config.require('location') -%}
  {{ run_hooks(pre_hooks) }}
  {% do adapter.dispatch('write_parquet')(sql, location) %}
  {{ run_hooks(post_hooks) }}
  {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}

{% macro default__write_parquet(sql, location) %}
  {{ exceptions.raise_compiler_error(target.type ~ ' writes tables, no parquet files') }}
{% endmacro %}

{% macro duckdb__write_parquet(sql, location) %}
  {% call noop_statement('main', 'OK') %}{{ sql }}{% endcall %}
  {% do adapter.store_relation('prep', this, [], location, 'parquet', {'sql': sql}) %}
{% endmacro %}

{#- At the end of the command, well or not: others may write into the folder again. -#}
{% macro end_run() %}
  {% if execute and target.type == 'duckdb' %}{% do adapter.store_relation('prep', none, [], '', '', {}) %}{% endif %}
{% endmacro %}

{% macro spark__write_parquet(sql, location) %}
  {{ get_assert_columns_equivalent(sql) }}
  {%- set files = 'parquet.`' ~ location | replace('`', '``') ~ '`' -%}
  {% call statement('main') %}
    insert overwrite directory {{ dbt.string_literal(dbt.escape_single_quotes(location)) }}
    using parquet options (compression 'zstd')
    {{ sql }}
  {% endcall %}
  {% do check_result(files) %}
  {% call statement('read_back') %}
    create or replace view {{ this }} as select * from {{ files }}
  {% endcall %}
{% endmacro %}
