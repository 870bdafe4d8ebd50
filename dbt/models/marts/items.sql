-- every column: the contract in items.yml says which these are
select * from {{ ref('articles_staging') }} -- noqa: AM04
order by article_id
