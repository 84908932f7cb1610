import t from 'tap'
import { createMeanings, unaligned } from './output.ts'

const [one, two, three] = [1, 2, 3].map((n) => `0199a0a0-0000-7000-8000-00000000000${n}`) as [string, string, string]

t.test('an output matches if it differs from the shown output only in placeholders', async (t) => {
  const { learn } = createMeanings()
  t.ok(learn('HTTP/1.1 202 Accepted\n…\nlocation: x\n', 'HTTP/1.1 202 Accepted\r\na: b\r\nc: d\r\nlocation: x'))
  t.ok(learn('a\n…\nb', 'a\nb'), '… alone on a line also matches zero lines')
  t.ok(learn('{"status":"queued",…}', '{"status":"queued","attempt":0}'))
  t.ok(learn('at 2026-11-21T15:54:31.578Z', 'at 2030-01-02T03:04:05.006Z'))
  t.ok(learn('ran 00:00:00, at 2026-11-22 02:00:00+00', 'ran 00:00:01.5, at 2030-01-02 03:04:05.6+00'))
  t.ok(learn('accepted.job_20261129 | 16 kB | 0.025', 'accepted.job_20300102 | 8192 bytes | 1.5000'))
  t.ok(learn('  API  x\n', '  API  x\n\n'))

  t.notOk(learn('HTTP/1.1 202 Accepted\n…\nlocation: x', 'HTTP/1.1 202 Accepted\nlocation: y'))
  t.notOk(learn('a\nb', 'a\nx\nb'))
  t.notOk(learn('a', 'a\nb'))
  t.notOk(learn('{"status":"queued",…}', '{"status":"failed","attempt":0}'))
  t.notOk(learn('job_20261129, 16 kB', 'job_default, 16 kB'))
  t.notOk(learn('0.25', '0.26'), 'a number with fewer decimals must be the same')
  t.notOk(learn('at 2026-11-21T15:54:31.578Z', 'at noon'))
  t.notOk(learn('a.c', 'abc'), 'a dot matches only a dot')
})

t.test(
  'a shown id always stands for the same real id, and a shown word that ends with … for the same real word',
  async (t) => {
    const { learn, fill } = createMeanings()
    t.notOk(learn(`${one} ${one}`, `${two} ${three}`))
    t.ok(learn(`${one} ${one}`, `${two} ${two}`))
    t.notOk(learn(one, three))
    t.ok(learn(one, two))
    t.ok(learn('key: whsec_…', 'key: whsec_abc/='))
    t.equal(fill(`curl /jobs/${one} SECRET=whsec_…`), `curl /jobs/${two} SECRET=whsec_abc/=`)
    t.throws(() => fill('SECRET=other_…'), /No earlier output/)
  },
)

t.test('unaligned removes the padding and the line of dashes from a psql table', async (t) => {
  const shown = ' name  | paused\n-------+--------\n daily | f\n'
  t.equal(unaligned(shown), 'name|paused\ndaily|f\n')
})
