{#- A model that the next stage reads as parquet: one file on duckdb, a folder of part files on spark.

    dbt-duckdb's `external` materialization would build a table first, and write a row of nulls for
    an empty result. Here the query's rows go straight into a temporary file, which takes the
    place of the old one by rename once it is whole. -#}
{% materialization parquet, default %}
  {%- set location = config.require('location') -%}
  {{ run_hooks(pre_hooks) }}
  {% if config.get('contract').enforced %}
    {{ get_assert_columns_equivalent(sql) }}
  {% endif %}
  {{ adapter.dispatch('write_parquet', 'hm')(sql, location) }}
  {% call statement('read_back') %}
    create or replace view {{ this }} as
    select * from {{ adapter.dispatch('read_parquet', 'hm')(location) }}
  {% endcall %}
  {{ run_hooks(post_hooks) }}
  {% if target.type == 'duckdb' %}{{ adapter.commit() }}{% endif %}
  {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}

{% macro default__write_parquet(sql, location) %}
  {{ exceptions.raise_compiler_error(target.type ~ ' writes tables, no parquet files') }}
{% endmacro %}
{#- Never called, but dbt looks for it as it parses the materialization. -#}
{% macro default__read_parquet(location) %}{% endmacro %}

{#- The file carries what made it: the vars, and what stage 1 says of its three files. -#}
{% macro duckdb__write_parquet(sql, location) %}
  {%- set inputs = fromjson(inputs_lineage()) -%}
  {%- set vars = {
    'training_end_date': var('training_end_date') | string,
    'min_interactions': var('min_interactions'),
  } -%}
  {%- set record = {'vars': vars, 'create_parquet_dataset': inputs} -%}
  {%- set marks = dict(vars, lineage=tojson(record, sort_keys=true)) -%}
  {%- for name in ('fraction', 'by', 'seed') if inputs -%}
    {%- do marks.update({name: inputs[name]}) -%}
  {%- endfor -%}
  {%- set name = modules.re.sub('.*/', '', location) -%}
  {%- set unfinished = run_query('select workspace()').columns[0][0] ~ '/' ~ name -%}
  {% call statement('main') %}
    copy ({{ sql }})
    to {{ string_literal(unfinished) }} (
      format parquet, compression zstd, compression_level 1, use_tmp_file false, kv_metadata {
        {%- for key, value in marks | items %}
        "{{ key }}": {{ string_literal(value) }}{{ "," if not loop.last }}
        {%- endfor %}
      }
    )
  {% endcall %}
  {%- do record.update(customers_by_lines=fromjson(customers_by_lines(unfinished))) -%}
  {%- set arguments = [] -%}
  {%- for value in (unfinished, location, tojson(record), tojson(config.get('meta').grain)) -%}
    {%- do arguments.append(string_literal(value)) -%}
  {%- endfor -%}
  {%- do run_query('select publish(' ~ arguments | join(', ') ~ ')') -%}
{% endmacro %}

{% macro duckdb__read_parquet(location) -%}
  {#- A bracket or a star in the folder's name is no pattern. -#}
  read_parquet({{ string_literal(modules.re.sub('([*?\\[])', '[\\1]', location)) }}, hive_partitioning = false)
{%- endmacro %}

{% macro spark__write_parquet(sql, location) %}
  {% call statement('main') %}
    insert overwrite directory {{ dbt.string_literal(dbt.escape_single_quotes(location)) }}
    using parquet options (compression 'zstd')
    {{ sql }}
  {% endcall %}
  {% do check_result(spark__read_parquet(location)) %}
{% endmacro %}

{% macro spark__read_parquet(location) %}parquet.`{{ location | replace('`', '``') }}`{% endmacro %}

{% macro string_literal(value) %}'{{ value | string | replace("'", "''") }}'{% endmacro %}
