// What stands between a commit and a handler of ours, by hand: a hint in a transaction of its own, the claim, which
// commits, and the lock of what was claimed, or, as PERFORM says, the status, which commits.
import pg from 'pg'
import { idleTimeoutMillis, ready } from '../core/module.ts'
import { serveEnqueuer, tellBegun } from './pickup-process.ts'

const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL as string,
  max: 4,
  idleTimeoutMillis,
})
const channel = 'work'
const begin = process.env.PERFORM ? perform : settle

async function perform(sequences: readonly number[]): Promise<void> {
  await pool.query({
    name: 'begin',
    text: 'update job set is_begun = true where sequence = any($1)',
    values: [sequences],
  })
  for (const sequence of sequences) tellBegun(sequence)
}

async function settle(sequences: readonly number[]): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query(`begin; select from job where sequence in (${sequences}) for update`)
    for (const sequence of sequences) tellBegun(sequence)
    await client.query('commit')
  } finally {
    client.release()
  }
}

const claim = {
  name: 'claim',
  text: `update job set is_claimed = true where sequence = any(array(
    select sequence from job where not is_claimed order by sequence limit 100 for update skip locked
  )) returning sequence`,
}

async function work(): Promise<void> {
  await pool.query(`
    create table job (sequence integer primary key, is_claimed boolean not null default false, is_begun boolean)
      with (fillfactor = 50);
    create index on job (sequence) where not is_claimed`)
  const listener = new pg.Client({ connectionString: process.env.DATABASE_URL as string })
  await listener.connect()
  let woken = false
  let claiming = false
  listener.on('notification', async () => {
    woken = true
    if (claiming) return
    claiming = true
    while (woken) {
      woken = false
      const { rows } = await pool.query<{ sequence: number }>(claim)
      if (rows.length > 0) void begin(rows.map(({ sequence }) => sequence))
    }
    claiming = false
  })
  await listener.query(`listen ${channel}`)
  ready()
}

if (process.env.ROLE === 'work') await work()
else {
  serveEnqueuer(async (sequence) => {
    await pool.query({ name: 'insert', text: 'insert into job (sequence) values ($1)', values: [sequence] })
    void pool.query({ name: 'notify', text: 'select pg_notify($1, $2)', values: [channel, String(sequence)] })
  })
}
