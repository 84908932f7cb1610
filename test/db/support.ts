import { type Kysely, sql } from 'kysely'
import pg from 'pg'
import type { Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createDatabase } from '../support/database.ts'

/** Opens a database with one connection and a table `word`, and watches both over a second connection. */
export async function openWatched(t: Test) {
  const url = await createDatabase(t)
  const database = openDatabase({ url, poolSize: 1, applicationName: 'watched' })
  t.teardown(() => database.close())
  const watcher = new pg.Client({ connectionString: url })
  await watcher.connect()
  t.teardown(() => watcher.end())
  await watcher.query('create table word (word text primary key)')
  /** Reads the committed words. */
  const words = async () => (await watcher.query('select word from word order by word')).rows.map(({ word }) => word)
  /** Reads the state of the database's connection from `pg_stat_activity`; undefined after the connection has ended. */
  const backendState = async () => {
    const { rows } = await watcher.query(
      "select state from pg_stat_activity where application_name = 'watched' and datname = current_database()",
    )
    return rows[0]?.state
  }
  return { url, database, words, backendState }
}

export const insertWord = (trx: AnyTransaction | Kysely<never>, word: string) =>
  sql`insert into word values (${word})`.execute(trx)
