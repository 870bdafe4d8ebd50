{{ config(materialized=made_once()) }}

with customers as (

    select * from {{ source('raw', 'customers') }}

),

renamed as (

    select
        customer_id,
        -- stands for the 64 characters of the id wherever rows are grouped,
        -- joined or sorted; in the order of the ids, so both sort alike
        cast(row_number() over (order by customer_id) as {{ dbt.type_int() }})
            as customer_no,
        -- a flag is 1.0 or not set
        coalesce(cast(active as {{ type_double() }}), 0.0) as active,
        coalesce(cast(fn as {{ type_double() }}), 0.0) as fn,
        -- an unknown age is no age: it stays null
        cast(age as {{ type_double() }}) as age,
        club_member_status,
        fashion_news_frequency,
        postal_code
    from customers

)

select * from renamed
