{#- dbt takes any --vars without a word: a misspelled name would leave the default in force. -#}
{% macro check_vars() %}
  {%- set known = ['data_dir', 'training_end_date', 'min_interactions'] -%}
  {%- for name in invocation_args_dict.get('vars', {}) if name not in known -%}
    {{ exceptions.raise_compiler_error(
      "unknown var '" ~ name ~ "': the vars of this project are " ~ known | join(', ') ~ "."
    ) }}
  {%- endfor -%}
  {%- set minimum = var('min_interactions') -%}
  {%- if minimum is boolean or minimum is not integer or minimum < 1 -%}
    {{ exceptions.raise_compiler_error(
      "min_interactions is '" ~ minimum ~ "': it must be a whole number from 1 on, such as 5."
    ) }}
  {%- endif -%}
  {%- set day = var('training_end_date') | string -%}
  {%- if not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', day) or not is_day(day) -%}
    {{ exceptions.raise_compiler_error(
      "training_end_date is '" ~ day ~ "': it must be a day such as 2020-09-08."
    ) }}
  {%- endif -%}
{% endmacro %}

{#- Refuse files that stage 1 did not write together, before anything reads them. -#}
{% macro check_inputs() %}
  {%- if execute and inputs_lineage() == 'null' and target.type == 'duckdb' -%}
    {{ log(
      'ATTENTION: ' ~ var('data_dir') ~ ' has no create_parquet_dataset.json, so damage to its files would not be seen',
      info=true
    ) }}
  {%- endif -%}
{% endmacro %}

{% macro release_inputs() %}
  {%- if execute and target.type == 'duckdb' -%}{%- do run_query('select release()') -%}{%- endif -%}
{% endmacro %}

{#- What stage 1 recorded of its three files, as JSON text; 'null' where nothing did. -#}
{% macro inputs_lineage() %}
  {{- return(adapter.dispatch('inputs_lineage', 'hm')()) -}}
{% endmacro %}
{% macro default__inputs_lineage() %}{{ return('null') }}{% endmacro %}
{% macro duckdb__inputs_lineage() %}
  {%- set answer = run_query('select inputs_lineage(' ~ string_literal(var('data_dir')) ~ ')') -%}
  {{- return(answer.columns[0][0]) -}}
{% endmacro %}

{#- strptime would raise a traceback; jinja has no try. -#}
{% macro is_day(day) %}
  {%- set year, month, number = day[:4] | int, day[5:7] | int, day[8:] | int -%}
  {%- set leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) -%}
  {%- set days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] -%}
  {{ return(year > 0 and 1 <= month <= 12 and 1 <= number <= days[month - 1]) }}
{% endmacro %}
