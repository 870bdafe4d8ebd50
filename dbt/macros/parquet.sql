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
  {% call statement('main') %}
    {{ adapter.dispatch('write_parquet', 'hm')(sql, location) }}
  {% endcall %}
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

{#- What made the rows: the vars, and what stage 1 noted in its file. -#}
{% macro made_with() %}
  {%- set notes = {
    'training_end_date': var('training_end_date'),
    'min_interactions': var('min_interactions'),
  } -%}
  {%- set noted = run_query(
    "select decode(key), decode(value) from parquet_kv_metadata('"
    ~ glob_free(var('data_dir') ~ '/transactions_train') ~ "')"
  ) -%}
  {%- for key, value in noted.rows if key in ('fraction', 'by', 'seed') -%}
    {%- do notes.update({key: value}) -%}
  {%- endfor -%}
  {{ return(notes) }}
{% endmacro %}

{% macro duckdb__write_parquet(sql, location) %}
  copy ({{ sql }})
  to {{ string_literal(location) }} (
    format parquet, compression zstd, use_tmp_file true, kv_metadata {
      {%- for key, value in made_with() | items %}
      "{{ key }}": {{ string_literal(value) }}{{ "," if not loop.last }}
      {%- endfor %}
    }
  )
{% endmacro %}

{% macro duckdb__read_parquet(location) %}read_parquet('{{ glob_free(location) }}'){% endmacro %}

{% macro string_literal(value) %}'{{ value | string | replace("'", "''") }}'{% endmacro %}

{#- The inside of a SQL string for one path: a bracket or a star in it is no pattern. -#}
{% macro glob_free(path) %}
  {{- return(modules.re.sub('([*?\\[])', '[\\1]', path) | replace("'", "''")) -}}
{% endmacro %}
