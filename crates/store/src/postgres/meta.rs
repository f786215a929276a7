//! SQL of `meta`.

use super::row::get as column;
use super::value::values;
use super::{Conn, Cx, Told};

pub(crate) async fn get(conn: &Conn, key: &str) -> Told<Option<Vec<u8>>> {
    let sql = "SELECT value FROM meta WHERE key = $1";
    let row = conn.row(sql, values![key]).await?;
    Ok(row.map(|row| column(&row, 0)).transpose()?)
}

pub(crate) async fn init(cx: &mut Cx, key: &str, value: &[u8]) -> Told<Vec<u8>> {
    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    cx.conn.execute(sql, values![key, value]).await?;
    Ok(get(&cx.conn, key).await?.unwrap_or_default())
}

pub(super) async fn remove(cx: &mut Cx, key: &str) -> Told<()> {
    let sql = "DELETE FROM meta WHERE key = $1";
    cx.conn.execute(sql, values![key]).await?;
    Ok(())
}

pub(crate) async fn set(cx: &mut Cx, key: &str, value: &[u8]) -> Told<()> {
    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    cx.conn.execute(sql, values![key, value]).await?;
    Ok(())
}
