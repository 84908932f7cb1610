import type { Handler } from 'accepted/worker'
import { type Kysely, sql } from 'kysely'
import type { Tables } from '../tables.ts'
import type { rebuildWords } from './operation.ts'

export const rebuildWordsHandler = (db: Kysely<Tables>) =>
  ({
    // In perform, because a long transaction would hold the rows of the jobs. A second run does no harm.
    perform: async ({ setResource }) => {
      // A function of the migrations: only the owner of a materialized view may refresh it.
      await sql`select rebuild_title_word()`.execute(db)
      setResource('/words')
    },
  }) satisfies Handler<typeof rebuildWords>
