import { sql } from 'kysely'
import t from 'tap'
import { pipeline } from '../../src/db/pipeline.ts'
import { useDefaultPlan, useGenericPlan } from '../../src/db/plan-settings.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { openTestDatabase } from '../support/database.ts'

t.test('useGenericPlan applies until useDefaultPlan is called or the transaction ends', async (t) => {
  const { kysely } = await openTestDatabase(t)
  const settings = async (trx: AnyTransaction) => {
    const { rows } = await sql`
      select current_setting('plan_cache_mode') as mode, current_setting('enable_seqscan') as seqscan`.execute(trx)
    return rows[0]
  }
  const defaults = { mode: 'auto', seqscan: 'on' }
  const transaction = (work: (trx: AnyTransaction) => Promise<unknown>) =>
    kysely.transaction().execute((trx) => work(trx as unknown as AnyTransaction))
  await transaction(async (trx) => {
    const [, found] = await pipeline(trx, (trx) => [useGenericPlan(trx), settings(trx), useDefaultPlan(trx)])
    t.same(found, { mode: 'force_generic_plan', seqscan: 'off' })
    t.same(await settings(trx), defaults)
    await useGenericPlan(trx)
  })
  await transaction(async (trx) => t.same(await settings(trx), defaults))
})
