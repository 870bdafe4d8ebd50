select
    kept_lines.product_id,
    products.manufacturer_id,
    products.department,
    products.brand,
    products.product_category,
    products.product_type,
    products.package_size,
    kept_lines.household_id,
    demographics.age,
    demographics.income,
    demographics.home_ownership,
    demographics.marital_status,
    demographics.household_size,
    demographics.household_comp,
    demographics.kids_count,
    kept_lines.basket_id,
    kept_lines.store_id,
    kept_lines.quantity,
    kept_lines.sales_value,
    kept_lines.retail_disc,
    kept_lines.coupon_disc,
    kept_lines.coupon_match_disc,
    kept_lines.transaction_timestamp
    {{ place_of('kept_lines') }}
from {{ slice_of(ref('kept_lines')) }} as kept_lines
inner join {{ source('raw', 'products') }} as products
    on kept_lines.product_id = products.product_id
-- a household without demographics stays
left join {{ source('raw', 'demographics') }} as demographics
    on kept_lines.household_id = demographics.household_id
