{#- dbt's own type_float() has 32 bits on duckdb and spark; its type_timestamp() has a zone on spark
    and bigquery. -#}
{% macro type_double() %}
  {{- return(adapter.dispatch('type_double')()) -}}
{% endmacro %}
{% macro default__type_double() %}double precision{% endmacro %}
{% macro duckdb__type_double() %}double{% endmacro %}
{% macro spark__type_double() %}double{% endmacro %}
{% macro bigquery__type_double() %}float64{% endmacro %}

{% macro type_datetime() %}
  {{- return(adapter.dispatch('type_datetime')()) -}}
{% endmacro %}
{% macro default__type_datetime() %}timestamp{% endmacro %}
{% macro spark__type_datetime() %}timestamp_ntz{% endmacro %}
{% macro snowflake__type_datetime() %}timestamp_ntz{% endmacro %}
{% macro bigquery__type_datetime() %}datetime{% endmacro %}
