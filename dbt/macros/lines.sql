{#- What all shops share: who is in, and in which order. -#}

{#- Narrow rows are made once, as a table, where they lie in DuckDB's memory; elsewhere a view is cheaper. -#}
{% macro narrow_table() %}{{ return('table' if target.type == 'duckdb' else 'view') }}{% endmacro %}

{#- Purchase lines of each user: all, and those before training_end_date. -#}
{% macro histories(lines, user, time) %}
select
    {{ user }},
    count(
        case when {{ time }} < cast('{{ var("training_end_date") }}' as {{ type_datetime() }}) then 1 end
    ) as lines,
    count(*) as all_lines
from {{ lines }}
group by {{ user }}
{% endmacro %}

{#- Only days before training_end_date decide who is in: a look at later ones would leak the future into train. -#}
{% macro kept_lines(lines, histories, user, order) %}
select lines.*
from {{ lines }} as lines
inner join {{ histories }} as histories on lines.{{ user }} = histories.{{ user }}
where histories.lines >= {{ var("min_interactions") }}
{% if target.type == 'duckdb' %}order by {{ order | join(', ') }}{% endif %}
{% endmacro %}

{#- On DuckDB the place of a row in kept_lines goes along as one more column, since a join keeps no order: the
    materialization puts the rows back in it. Sorting the wide rows takes twice the time and ten times the disk. -#}
{% macro place_of(lines) %}{% if target.type == 'duckdb' %}, {{ lines }}.rowid as __place{% endif %}{% endmacro %}

{#- Spark sorts its folder of files; a table of a database has no order, so the flow sorts what it reads. -#}
{% macro ordered_by(lines, order) %}
{%- if target.type == 'spark' -%}
order by {% for column in order %}{{ lines }}.{{ column }}{{ ", " if not loop.last }}{% endfor %}
{%- endif -%}
{% endmacro %}
