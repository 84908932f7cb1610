import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { type RawBuilder, sql } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { openDatabase } from '../../src/db/database.ts'
import { transact } from '../../src/db/transaction.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { serve } from '../support/api.ts'
import { post } from '../support/client.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'

interface Case {
  setUp: string
  ddl: string
  /** The statement, which is prepared before the DDL. */
  statement(value: string): RawBuilder<unknown>
  before: string
  after: string
}

const insert = (value: string) => sql`insert into thing values (${value})`
const id = '01980000-0000-7000-8000-000000000000'

const cases: Readonly<Record<string, Case>> = {
  'a column becomes bigint, because its numbers have run out': {
    setUp: 'create table thing (value integer)',
    ddl: 'alter table thing alter value type bigint',
    statement: insert,
    before: '1',
    after: '5000000000',
  },
  'a column becomes an enum': {
    setUp: "create type color as enum ('red'); create table thing (value text)",
    ddl: 'alter table thing alter value type color using value::color',
    statement: insert,
    before: 'red',
    after: 'red',
  },
  'an enum is replaced by one with more values': {
    setUp: "create type color as enum ('red'); create table thing (value color)",
    ddl: `
      alter type color rename to old_color;
      create type color as enum ('red', 'blue');
      alter table thing alter value type color using value::text::color;
      drop type old_color`,
    statement: insert,
    before: 'red',
    after: 'blue',
  },
  'a column in a condition becomes a uuid': {
    setUp: 'create table thing (value text)',
    ddl: 'alter table thing alter value type uuid using value::uuid',
    statement: (value) => sql`select from thing where value = ${value}`,
    before: id,
    after: id,
  },
  'a table is replaced by another one': {
    setUp: 'create table thing (value integer)',
    ddl: 'alter table thing rename to old_thing; create table thing (value text, more text)',
    statement: (value) => sql`insert into thing values (${value}) returning *`,
    before: '1',
    after: 'one',
  },
  'a function gets another parameter type': {
    setUp: "create function thing(value integer) returns integer language sql as 'select value'",
    ddl: `
      drop function thing;
      create function thing(value text) returns text language sql as 'select value'`,
    statement: (value) => sql`select thing(${value})`,
    before: '1',
    after: 'one',
  },
  'a PL/pgSQL function reads a column whose type changes': {
    setUp: `
      create table thing (value integer);
      insert into thing values (1);
      create function read_thing(unused text) returns text language plpgsql as $$
      declare
        thing record;
      begin
        select * into thing from thing;
        return thing.value;
      end $$`,
    ddl: 'alter table thing alter value type text',
    statement: (value) => sql`select read_thing(${value})`,
    before: '1',
    after: '1',
  },
}

for (const [name, { setUp, ddl, statement, before, after }] of Object.entries(cases)) {
  t.test(`a transaction runs again when ${name}`, async (t) => {
    const url = await createDatabase(t)
    await queryOnce(url, setUp)
    const database = openDatabase({ url })
    t.teardown(() => database.close())
    let runs = 0
    const run = (value: string) =>
      transact(database, async (trx) => {
        runs += 1
        await statement(value).execute(trx as unknown as AnyTransaction)
      })
    for (let use = 0; use < 3; use++) await run(before)
    await queryOnce(url, ddl)
    runs = 0
    for (let use = 0; use < 3; use++) await run(after)
    t.equal(runs, 4, 'once more than before')
  })
}

t.test('a wrong value fails at once, and after some failures its statement is no longer prepared', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(url, 'create table thing (value integer)')
  const database = openDatabase({ url, poolSize: 1 })
  t.teardown(() => database.close())
  const run = (value: string) => transact(database, (trx) => insert(value).execute(trx as unknown as AnyTransaction))
  for (let use = 0; use < 30; use++) {
    await run('1')
    await t.rejects(run('one'), { code: '22P02' })
  }
  const { rows } = await database.pool.query(
    "select from pg_prepared_statements where statement ~ '^insert into thing'",
  )
  t.equal(rows.length, 5, 'the session keeps few of them')
})

const Thing = Type.Object({ value: Type.String() })

t.test('a type that DDL changes costs no request and no attempt', async (t) => {
  const accepted = defineOperation({
    name: 'thing.accept',
    route: { method: 'POST', url: '/things' },
    input: Thing,
    accept: async (trx: AnyTransaction, entries) => {
      for (const { input } of entries) await insert(input.value).execute(trx)
      return entries.map(({ input }) => ({ payload: input }))
    },
  })
  const { url, database } = await serve(t, { operations: { accepted } })
  await database.pool.query('create table thing (value integer)')
  for (let use = 0; use < 3; use++) t.equal((await post(`${url}/things`, { value: '1' })).status, 202)
  await database.pool.query('alter table thing alter value type bigint')
  t.equal((await post(`${url}/things`, { value: '5000000000' })).status, 202)

  const settled = defineOperation({ name: 'thing.settle', input: Thing, retry: { limit: 0 } })
  const jobs = await openJobs(t, [settled])
  await jobs.query('create table thing (value integer)')
  await jobs.work(
    defineHandlers(
      { settled },
      {
        'thing.settle': {
          settle: async (trx: AnyTransaction, ofBatch) => {
            for (const { payload } of ofBatch) await insert(payload.value).execute(trx)
          },
        },
      },
    ),
  )
  const run = async (value: string) => jobs.ended(await jobs.add(settled, { value }))
  for (let use = 0; use < 3; use++) t.match(await run('1'), { status: 'succeeded' })
  await jobs.query('alter table thing alter value type bigint')
  t.match(await run('5000000000'), { status: 'succeeded' })
  t.same(await jobs.query('select from accepted.attempt'), [])
})
