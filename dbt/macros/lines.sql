{#- What all shops share: who is in, and in which order. -#}

{#- What several models read is made once, as a table, in DuckDB's memory; elsewhere a view is cheaper. -#}
{% macro made_once() %}{{ return('table' if target.type == 'duckdb' else 'view') }}{% endmacro %}

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
    materialization puts the rows back in it. Sorting the wide rows takes twice the time and ten times the disk.
    Where the join does not fit into memory, the materialization sets two variables and asks for one slice of the
    rows after the other; without the variables the slice is all rows. -#}
{% macro slice_of(lines) %}
{%- if target.type == 'duckdb' -%}
(
    select *, rowid as __place from {{ lines }}
    where
        rowid >= coalesce(getvariable('slice_start'), 0)
        and rowid < coalesce(getvariable('slice_end'), 9223372036854775807)
)
{%- else -%}
{{ lines }}
{%- endif -%}
{% endmacro %}

{#- The place of a row; the last column of the query. -#}
{% macro place_of(lines) %}{% if target.type == 'duckdb' %}, {{ lines }}.__place{% endif %}{% endmacro %}

{#- A filter for a table of many users: only those in the slice, so that the join holds no others in memory. -#}
{% macro only_of_slice(lines, key) %}
{%- if target.type == 'duckdb' -%}
where {{ key }} in (select {{ key }} from {{ slice_of(lines) }} as slice)
{%- endif -%}
{% endmacro %}

{#- Spark sorts its folder of files; a table of a database has no order, so the flow sorts what it reads. -#}
{% macro ordered_by(lines, order) %}
{%- if target.type == 'spark' -%}
order by {% for column in order %}{{ lines }}.{{ column }}{{ ", " if not loop.last }}{% endfor %}
{%- endif -%}
{% endmacro %}
