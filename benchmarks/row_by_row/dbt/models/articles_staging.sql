select
    cast(article_id as bigint) as article_id,
    cast(product_code as bigint) as product_code,
    product_type_no,
    product_group_name,
    graphical_appearance_no,
    cast(colour_group_code as bigint) as colour_group_code,
    perceived_colour_value_id,
    perceived_colour_master_id,
    department_no,
    index_code,
    index_group_no,
    section_no,
    garment_group_no
from {{ source('raw', 'articles') }}
