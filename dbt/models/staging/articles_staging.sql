with articles as (

    select * from {{ source('raw', 'articles') }}

),

renamed as (

    select
        cast(article_id as {{ dbt.type_bigint() }}) as article_id,
        cast(product_code as {{ dbt.type_bigint() }}) as product_code,
        cast(product_type_no as {{ dbt.type_bigint() }}) as product_type_no,
        product_group_name,
        cast(graphical_appearance_no as {{ dbt.type_bigint() }})
            as graphical_appearance_no,
        cast(colour_group_code as {{ dbt.type_bigint() }}) as colour_group_code,
        cast(perceived_colour_value_id as {{ dbt.type_bigint() }})
            as perceived_colour_value_id,
        cast(perceived_colour_master_id as {{ dbt.type_bigint() }})
            as perceived_colour_master_id,
        cast(department_no as {{ dbt.type_bigint() }}) as department_no,
        index_code,
        cast(index_group_no as {{ dbt.type_bigint() }}) as index_group_no,
        cast(section_no as {{ dbt.type_bigint() }}) as section_no,
        cast(garment_group_no as {{ dbt.type_bigint() }}) as garment_group_no
    from articles

)

select * from renamed
