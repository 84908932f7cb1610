import t from 'tap'
import { createLogFormat } from '../../src/primitives/log-format.ts'

const formatLogLine = createLogFormat()
const time = Date.UTC(2027, 1, 14, 12, 0, 1, 250)
const format = (entry: object) => formatLogLine(JSON.stringify({ level: 30, time, pid: 1, hostname: 'h', ...entry }))

t.test('a line has the time, the level, the message and the other members', async (t) => {
  t.equal(
    format({ msg: 'Worker is ready', operation: 'todo.create', jobs: ['a b'] }),
    '12:00:01.250 INFO  Worker is ready operation=todo.create jobs=["a b"]\n',
  )
})

t.test('the stack of an error and of its cause follow on lines of their own', async (t) => {
  const cause = { type: 'Error', message: 'inner', stack: 'Error: inner\n    at b' }
  const err = { type: 'Error', message: 'outer', stack: 'Error: outer\n    at a', cause }
  t.equal(
    format({ level: 50, msg: 'Failed', err }),
    [
      ...['12:00:01.250 ERROR Failed', '    Error: outer', '        at a'],
      ...['    Caused by: Error: inner', '        at b', ''],
    ].join('\n'),
  )
})

t.test('no text can control the terminal', async (t) => {
  const text = '\u001b[2Jgone\u0007\nnext\u009b31m'
  const printed = format({ msg: text, member: text, [text]: 1, err: { type: 'E', message: '', stack: text } })
  t.notMatch(printed.replaceAll('\n', ''), /\p{Cc}/u)
  t.equal(printed.split('\n').length, 4, 'only a stack has lines of its own')
})

t.test('a line that is no JSON of a log stays as it is', async (t) => {
  for (const line of ['error: no', '{"a":1}', '{broken', '[1]', '']) t.equal(formatLogLine(line), line)
})

t.test('members with the names of the log may have any value', async (t) => {
  t.match(format({ msg: 'Sent', err: 'no route' }), /^12:00:01\.250 INFO {2}Sent err="no route"\n$/)
  t.match(format({ msg: 'Sent', err: { message: 'no route' } }), /Sent\n {4}Error: no route\n$/)
  for (const entry of [{ time: 1e30 }, { time: 'soon' }, { level: 'high' }]) {
    t.equal(format(entry), JSON.stringify({ level: 30, time, pid: 1, hostname: 'h', ...entry }))
  }
})

t.test('a request is one line, when it is answered, and a health check that succeeds is none', async (t) => {
  const req = (url: string) => ({ req: { method: 'POST', url }, msg: 'incoming request' })
  const res = (statusCode: number) => ({ res: { statusCode }, responseTime: 2.6, msg: 'request completed' })
  t.equal(format({ reqId: 'a', ...req('/todos') }), '')
  t.equal(format({ reqId: 'b', ...req('/health/ready') }), '')
  t.equal(format({ reqId: 'a', ...res(202) }), '12:00:01.250 POST /todos 202 3 ms\n')
  t.equal(format({ reqId: 'b', ...res(200) }), '')
  t.equal(
    format({ reqId: 'c', ...req('/health/ready') }) + format({ reqId: 'c', ...res(503) }),
    '12:00:01.250 POST /health/ready 503 3 ms\n',
  )
  t.match(format({ reqId: 'd', ...res(200) }), /INFO {2}request completed reqId=d/, 'the request is unknown')
  t.match(format({ reqId: 'd', msg: 'slow' }), /INFO {2}slow reqId=d/)
})
