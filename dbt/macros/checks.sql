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

{#- dbt run --empty, or DBT_EMPTY, would put a table without rows in the place of a good one. -#}
{% macro check_command() %}
  {%- if invocation_args_dict.get('empty') -%}
    {{ exceptions.raise_compiler_error(
      "--empty (or DBT_EMPTY) would replace the result by one without rows: leave it out."
    ) }}
  {%- endif -%}
  {%- if execute and target.type == 'duckdb' -%}
    {%- if flags.WHICH == 'test' -%}
      {{ exceptions.raise_compiler_error(
        "on DuckDB the models live in memory, so `dbt test` alone has nothing to test:"
        ~ " `dbt build` makes them and runs their tests."
      ) }}
    {%- endif -%}
    {%- if 'retry' in invocation_args_dict.get('invocation_command', '').split(' ') -%}
      {{ exceptions.raise_compiler_error(
        "on DuckDB the models live in memory, so `dbt retry` has nothing to go on from: start the command again."
      ) }}
    {%- endif -%}
    {%- for id in selected_resources if id.startswith('model.') -%}
      {%- for parent in graph.nodes[id].depends_on.nodes
          if parent.startswith('model.') and parent not in selected_resources -%}
        {{ exceptions.raise_compiler_error(
          "on DuckDB the models live in memory, so " ~ id.split('.')[-1] ~ " cannot be made without "
          ~ parent.split('.')[-1] ~ ": select it with all that it reads, `--select +" ~ id.split('.')[-1] ~ "`."
        ) }}
      {%- endfor -%}
    {%- endfor -%}
  {%- endif -%}
{% endmacro %}

{#- Refuse files that stage 1 did not write together, before anything reads them. -#}
{% macro check_inputs() %}
  {%- if execute and target.type == 'duckdb' -%}
    {%- set wrong = run_query('select memory_limit_error()').columns[0][0] -%}
    {%- if wrong -%}{{ exceptions.raise_compiler_error(wrong) }}{%- endif -%}
    {%- if inputs_lineage() == 'null' -%}
      {{ log(
        'ATTENTION: ' ~ var('data_dir')
        ~ ' has no create_parquet_dataset.json, so damage to its files would not be seen', info=true
      ) }}
    {%- endif -%}
    {%- do run_query(
      'set temp_directory = ' ~ string_literal(run_query('select workspace()').columns[0][0] ~ '/spill')
    ) -%}
    {%- set types = run_query(
      'select column_type from (describe from ' ~ duckdb__read_parquet(var('data_dir') ~ '/transactions_train')
      ~ ") where column_name = 't_dat'"
    ).columns[0] -%}
    {%- if types and 'TIME ZONE' in types[0] -%}
      {{ log('ATTENTION: t_dat of transactions_train has a time zone: its days are taken in UTC', info=true) }}
    {%- endif -%}
  {%- endif -%}
{% endmacro %}

{% macro release_inputs() %}
  {%- if execute and target.type == 'duckdb' -%}{%- do run_query('select release()') -%}{%- endif -%}
{% endmacro %}

{#- Not empty, no null in the row key, no key twice: where the engine writes a table, this runs in the
    transaction that replaces it, if the engine has one; DuckDB's file is checked before its rename. -#}
{% macro check_result(relation) %}
  {%- if execute and target.type != 'duckdb' -%}
    {%- set key = model.config.meta.grain -%}
    {%- set counts = run_query(
      'select count(*) as row_count, coalesce(sum(case when ' ~ key | join(' is null or ')
      ~ ' is null then 1 else 0 end), 0) as incomplete from ' ~ relation
    ) -%}
    {%- set doubled = run_query(
      'select count(*) as doubled from (select count(*) as n from ' ~ relation ~ ' group by ' ~ key | join(', ')
      ~ ' having count(*) > 1) as twice'
    ) -%}
    {%- if counts.columns[0][0] == 0 -%}
      {{ exceptions.raise_compiler_error(
        'the result has no row: take a later training_end_date or a smaller min_interactions.'
      ) }}
    {%- elif counts.columns[1][0] > 0 -%}
      {{ exceptions.raise_compiler_error('the result has rows without ' ~ key | join(' or ') ~ '.') }}
    {%- elif doubled.columns[0][0] > 0 -%}
      {{ exceptions.raise_compiler_error('the result has two rows with one ' ~ key | join(', ') ~ '.') }}
    {%- endif -%}
  {%- endif -%}
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
