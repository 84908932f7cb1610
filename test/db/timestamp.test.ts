import t from 'tap'
import { parseTimestamp } from '../../src/db/timestamp.ts'
import { openTestDatabase } from '../support/database.ts'

/** In Postgres, the offset of a POSIX time zone has the other sign. */
const timeZones = [
  'UTC',
  'Asia/Kathmandu',
  'America/St_Johns',
  'Pacific/Kiritimati',
  '-167:59',
  '<odd>100:30',
  'EST5EDT',
]
const times = [
  ...['2026-11-28T21:13:49.664Z', '1970-01-01T00:00:00.000Z', '2000-02-29T23:59:59.999Z', '9999-12-31T23:59:59.000Z'],
  ...[
    '1850-06-01T12:00:00.000Z',
    '0099-03-01T00:00:00.000Z',
    '0000-02-29T06:00:00.000Z',
    '-000043-03-15T10:00:00.000Z',
  ],
  ...['+012345-01-02T03:04:05.000Z', '2026-11-28T21:13:01.001Z'],
]

t.test('reads every time in every time zone of Postgres, as text and in JSON', async (t) => {
  const { pool } = await openTestDatabase(t)
  const client = await pool.connect()
  t.teardown(() => client.release(true))
  for (const zone of timeZones) {
    await client.query("select set_config('timezone', $1, false)", [zone])
    for (const time of times) {
      const at = Date.parse(time)
      const { rows } = await client.query(
        `with read as (select to_timestamp($1::float8 / 1000) as at)
        select at, at::text as text, to_json(at)::text as json from read`,
        [at],
      )
      const [{ at: read, text, json }] = rows
      t.equal(read.getTime(), at, `${text} in ${zone}`)
      t.equal((parseTimestamp(JSON.parse(json)) as Date).getTime(), at, json)
    }
  }
})

t.test('reads infinite times as numbers, as node-postgres does', async (t) => {
  const { pool } = await openTestDatabase(t)
  const { rows } = await pool.query("select 'infinity'::timestamptz as last, '-infinity'::timestamptz as first")
  t.same(rows, [{ last: Infinity, first: -Infinity }])
})

t.test('microseconds are cut off, as node-postgres does', async (t) => {
  t.same(parseTimestamp('2026-01-02 03:04:05.678999+00'), new Date('2026-01-02T03:04:05.678Z'))
})
