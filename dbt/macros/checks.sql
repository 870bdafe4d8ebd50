{#- dbt takes any --vars without a word: a misspelled name would leave the default in force. -#}
{% macro check_vars() %}
  {%- set known = ['data_dir', 'training_end_date', 'validation_end_date', 'min_interactions'] -%}
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
  {%- for name in ('training_end_date', 'validation_end_date') if not is_day(var(name) | string) -%}
    {{ exceptions.raise_compiler_error(
      name ~ " is '" ~ var(name) ~ "': it must be a day such as 2020-09-08."
    ) }}
  {%- endfor -%}
{% endmacro %}

{#- Counted from the first of the month, a day that the month lacks is another one. -#}
{% macro is_day(day) %}
  {%- if not modules.re.fullmatch('(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])', day) -%}
    {{ return(false) }}
  {%- endif -%}
  {%- set first = modules.datetime.date(day[:4] | int, day[5:7] | int, 1) -%}
  {{ return((first + modules.datetime.timedelta(days=day[8:] | int - 1)).isoformat() == day) }}
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
