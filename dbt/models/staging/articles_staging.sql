with articles as (

    select * from {{ source('raw', 'articles') }}

),

renamed as (

    select
        cast(article_id as {{ dbt.type_bigint() }}) as article_id,
        cast(product_code as {{ dbt.type_bigint() }}) as product_code,
        prod_name,
        cast(product_type_no as {{ dbt.type_bigint() }}) as product_type_no,
        product_type_name,
        product_group_name,
        cast(graphical_appearance_no as {{ dbt.type_bigint() }})
            as graphical_appearance_no,
        graphical_appearance_name,
        cast(colour_group_code as {{ dbt.type_bigint() }}) as colour_group_code,
        colour_group_name,
        cast(perceived_colour_value_id as {{ dbt.type_bigint() }})
            as perceived_colour_value_id,
        perceived_colour_value_name,
        cast(perceived_colour_master_id as {{ dbt.type_bigint() }})
            as perceived_colour_master_id,
        perceived_colour_master_name,
        cast(department_no as {{ dbt.type_bigint() }}) as department_no,
        department_name,
        index_code,
        index_name,
        cast(index_group_no as {{ dbt.type_bigint() }}) as index_group_no,
        index_group_name,
        cast(section_no as {{ dbt.type_bigint() }}) as section_no,
        section_name,
        cast(garment_group_no as {{ dbt.type_bigint() }}) as garment_group_no,
        garment_group_name,
        detail_desc
    from articles

)

select * from renamed
