{{ config(materialized=made_once()) }}

-- one row per household, product, basket and time; the order in each sum
-- makes it the same in every run
select
    purchases.household_id,
    purchases.product_id,
    purchases.basket_id,
    purchases.transaction_timestamp,
    min(purchases.store_id) as store_id,
    cast(sum(purchases.quantity) as bigint) as quantity,
    sum(purchases.sales_value order by purchases.sales_value) as sales_value,
    sum(purchases.retail_disc order by purchases.retail_disc) as retail_disc,
    sum(purchases.coupon_disc order by purchases.coupon_disc) as coupon_disc,
    sum(purchases.coupon_match_disc order by purchases.coupon_match_disc)
        as coupon_match_disc
from {{ source('raw', 'transactions') }} as purchases
-- products that the product table lacks are left out, and counted in stage 1
inner join {{ source('raw', 'products') }} as products
    on purchases.product_id = products.product_id
group by
    purchases.household_id,
    purchases.product_id,
    purchases.basket_id,
    purchases.transaction_timestamp
