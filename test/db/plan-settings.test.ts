import { sql } from 'kysely'
import t from 'tap'
import { pipeline } from '../../src/db/pipeline.ts'
import { useCustomPlan, useDefaultPlan, useGenericPlan } from '../../src/db/plan-settings.ts'
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

t.test('no statement of ours is compiled, although its plan may seem very expensive', async (t) => {
  const { kysely } = await openTestDatabase(t)
  const explain = (trx: AnyTransaction) =>
    sql<{ 'QUERY PLAN': string }>`explain (analyze) select from accepted.change_expiry`.execute(trx)
  for (const usePlan of [useGenericPlan, useCustomPlan]) {
    const plan = await kysely.transaction().execute(async (given) => {
      const trx = given as unknown as AnyTransaction
      // The cost of compiling is always exceeded.
      await sql`set local jit = on`.execute(trx)
      await sql`set local jit_above_cost = 0`.execute(trx)
      await usePlan(trx)
      return (await explain(trx)).rows.map((row) => row['QUERY PLAN'])
    })
    t.notMatch(plan.join('\n'), 'JIT')
  }
  const { rows } = await sql<{ name: string }>`
    select proname as name from pg_proc
    where pronamespace = 'accepted'::regnamespace and 'enable_seqscan=off' = any(proconfig)
      and not 'jit=off' = any(proconfig)`.execute(kysely)
  t.same(rows, [])
})
