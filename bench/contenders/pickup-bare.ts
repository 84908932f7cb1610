// The hand-written minimum between a commit and the start of a handler: a notification in its own transaction, a claim
// that commits, and a lock of the claimed rows. If PERFORM is set, a status update that commits replaces the lock.
import pg from 'pg'
import { idleTimeoutMillis, ready } from '../core/module.ts'
import { reportStarted, serveEnqueuer } from './pickup-process.ts'

const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL as string,
  max: 4,
  idleTimeoutMillis,
})
const channel = 'work'
const maxClaimSize = 100
const start = process.env.PERFORM ? perform : settle

async function perform(sequences: readonly number[]): Promise<void> {
  await pool.query({
    name: 'start',
    text: 'update job set is_started = true where sequence = any($1)',
    values: [sequences],
  })
  for (const sequence of sequences) reportStarted(sequence)
}

async function settle(sequences: readonly number[]): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query(`begin; select from job where sequence in (${sequences}) for update`)
    for (const sequence of sequences) reportStarted(sequence)
    await client.query('commit')
  } finally {
    client.release()
  }
}

const claim = {
  name: 'claim',
  text: `update job set is_claimed = true where sequence = any(array(
    select sequence from job where not is_claimed order by sequence limit ${maxClaimSize} for update skip locked
  )) returning sequence`,
}

async function work(): Promise<void> {
  await pool.query(`
    create table job (sequence integer primary key, is_claimed boolean not null default false, is_started boolean)
      with (fillfactor = 50);
    create index on job (sequence) where not is_claimed`)
  const listener = new pg.Client({ connectionString: process.env.DATABASE_URL as string })
  await listener.connect()
  let isNotified = false
  let isClaiming = false
  listener.on('notification', async () => {
    isNotified = true
    if (isClaiming) return
    isClaiming = true
    while (isNotified) {
      isNotified = false
      const { rows } = await pool.query<{ sequence: number }>(claim)
      if (rows.length > 0) void start(rows.map(({ sequence }) => sequence))
    }
    isClaiming = false
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
