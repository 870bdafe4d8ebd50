-- The lines hold every unit that was read and whose customer and article are
-- known: no row got lost or doubled on the way.
with transactions as (

    select * from {{ ref('transactions_staging') }}

),

customers as (

    select customer_id from {{ ref('customers_staging') }}

),

articles as (

    select article_id from {{ ref('articles_staging') }}

),

read_units as (

    select count(*) as units
    from transactions
    where
        transactions.customer_id in (select customers.customer_id from customers)
        and transactions.article_id in (select articles.article_id from articles)

),

line_units as (

    select coalesce(sum(quantity), 0) as units
    from {{ ref('purchase_lines') }}

)

select
    read_units.units as read_units,
    line_units.units as line_units
from read_units
cross join line_units
where read_units.units <> line_units.units
