{% test at_midnight(model, column_name) %}
select {{ column_name }} from {{ model }}
where {{ column_name }} <> cast(cast({{ column_name }} as date) as {{ type_datetime() }})
{% endtest %}
