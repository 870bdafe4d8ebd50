with lines as (

    select * from {{ ref('purchase_lines') }}

),

articles as (

    select * from {{ ref('articles_staging') }}

),

customers as (

    select * from {{ ref('customers_staging') }}

),

-- only days before training_end_date decide who is in: a look at later ones
-- would leak the future into the training set
frequent_customers as (

    select customer_no
    from lines
    where t_dat < cast('{{ var("training_end_date") }}' as {{ type_datetime() }})
    group by customer_no
    having count(*) >= {{ var("min_interactions") }}

)

select
    lines.article_id,
    articles.product_code,
    articles.product_type_no,
    articles.product_group_name,
    articles.graphical_appearance_no,
    articles.colour_group_code,
    articles.perceived_colour_value_id,
    articles.perceived_colour_master_id,
    articles.department_no,
    articles.index_code,
    articles.index_group_no,
    articles.section_no,
    articles.garment_group_no,
    customers.active,
    customers.fn,
    customers.age,
    customers.club_member_status,
    customers.customer_id,
    customers.fashion_news_frequency,
    customers.postal_code,
    lines.price,
    lines.sales_channel_id,
    lines.t_dat,
    lines.quantity
from lines
inner join frequent_customers
    on lines.customer_no = frequent_customers.customer_no
inner join articles on lines.article_id = articles.article_id
inner join customers on lines.customer_no = customers.customer_no
-- a total order, and last, since a join keeps none: equal inputs, equal files;
-- customer_no sorts as customer_id does
order by
    lines.t_dat,
    lines.customer_no,
    lines.article_id,
    lines.sales_channel_id,
    lines.price
