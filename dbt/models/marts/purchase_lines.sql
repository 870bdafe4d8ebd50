{{ config(materialized=made_once()) }}

with transactions as (

    select * from {{ ref('transactions_staging') }}

),

customers as (

    select
        customer_id,
        customer_no
    from {{ ref('customers_staging') }}

),

articles as (

    select article_id from {{ ref('articles_staging') }}

),

known as (

    select
        customers.customer_no,
        transactions.article_id,
        transactions.t_dat,
        transactions.price,
        transactions.sales_channel_id
    from transactions
    inner join customers on transactions.customer_id = customers.customer_id
    inner join articles on transactions.article_id = articles.article_id

),

lines as (

    select
        customer_no,
        article_id,
        t_dat,
        price,
        sales_channel_id,
        count(*) as quantity
    from known
    group by customer_no, article_id, t_dat, price, sales_channel_id

)

select * from lines
