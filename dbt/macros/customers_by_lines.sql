{#- What each min_interactions would keep, as JSON text: groups of customers by their purchase lines
    before training_end_date (the last one: 20 or more), and the rows of all days that are theirs.

    Whoever has a row in the finished file is counted there; only the lines of the others, whom the
    filter left out, are made once more. -#}
{% macro customers_by_lines(file) %}
  {%- set count_lines -%}
    customer_id,
    count(*) filter (where t_dat < timestamp {{ string_literal(var('training_end_date')) }}) as lines,
    count(*) as rows
  {%- endset -%}
  {%- set query -%}
    with kept as (
      select {{ count_lines }} from {{ duckdb__read_parquet(file) }} group by customer_id
    ),
    left_out as (
      select {{ count_lines }}
      from (
        select distinct customer_id, article_id, t_dat, price, sales_channel_id
        from {{ this.incorporate(path={'identifier': 'transactions_staging'}) }}
        where customer_id in (
          select customer_id from {{ this.incorporate(path={'identifier': 'customers_staging'}) }}
          anti join kept using (customer_id)
        )
      )
      where article_id in (select article_id from {{ this.incorporate(path={'identifier': 'articles_staging'}) }})
      group by customer_id
    ),
    groups as (
      select least(lines, 20) as lines, count(*) as customers, sum(rows)::bigint as rows
      from (from kept union all from left_out)
      group by all
    )
    select coalesce(to_json(list(groups order by lines)), '[]') from groups
  {%- endset -%}
  {{- return(run_query(query).columns[0][0]) -}}
{% endmacro %}
