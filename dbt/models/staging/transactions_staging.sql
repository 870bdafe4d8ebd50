with transactions as (

    select * from {{ source('raw', 'transactions_train') }}

),

renamed as (

    select
        customer_id,
        cast(article_id as {{ dbt.type_bigint() }}) as article_id,
        cast(t_dat as {{ type_datetime() }}) as t_dat,
        cast(price as {{ type_double() }}) as price,
        cast(sales_channel_id as {{ dbt.type_bigint() }}) as sales_channel_id
    from transactions

)

select * from renamed
