-- depends_on: {{ ref('items') }}
with articles as (

    select * from {{ ref('articles_staging') }}

),

customers as (

    select * from {{ ref('customers_staging') }}
    {{ only_of_slice(ref('kept_lines'), 'customer_no') }}

)

select
    kept_lines.article_id,
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
    kept_lines.price,
    kept_lines.sales_channel_id,
    kept_lines.t_dat,
    kept_lines.quantity
    {{ place_of('kept_lines') }}
from {{ slice_of(ref('kept_lines')) }} as kept_lines
inner join articles on kept_lines.article_id = articles.article_id
inner join customers on kept_lines.customer_no = customers.customer_no
{{ ordered_by(
    'kept_lines', ['t_dat', 'customer_no', 'article_id', 'sales_channel_id', 'price']
) }}
