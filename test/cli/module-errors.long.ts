import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run } from '../support/command.ts'
import { writeApp } from './app.ts'

t.jobs = 2

const env = { DATABASE_URL: 'postgres://ann@127.0.0.1:1/none', LOG_LEVEL: 'warn' }

/** Runs `accepted migrate`, which loads only the configuration and the operations, with these operations. */
async function fail(t: Test, operations: string, files: Record<string, string | null> = {}) {
  const directory = await writeApp(t, { 'operations.js': operations, ...files })
  const { code, err } = await run(['migrate', '--config', join(directory, 'accepted.config.js')], env)
  t.equal(code, 1)
  return err.replaceAll(`${directory}/`, '')
}

t.test('a wrong import is one line that names its place, and says what to do', async (t) => {
  for (const [operations, files, start, advice] of [
    [`import './other'`, { 'other.js': '' }, 'operations.js:1:9: Cannot find module', "Did you mean './other.js'?"],
    [
      `\nimport './other.js'`,
      { 'other.ts': '' },
      'operations.js:2:9: Cannot find module',
      "Did you mean './other.ts'?",
    ],
    [`import './lib'`, { 'lib/index.js': '' }, 'operations.js:1:9: Directory import', "mean './lib/index.js'?"],
    [`import './none.js'`, {}, 'operations.js:1:9: Cannot find module', 'Correct the path of the import.'],
    [`await import('./none.js')`, {}, 'operations.js:1:15: Cannot find module', 'Correct the path of the import.'],
    [`import '@acme/mail/smtp'`, {}, 'operations.js:1:9: Cannot find package', 'npm install @acme/mail'],
    [`import '@/mail'`, {}, 'operations.js:1:9: Cannot find package', 'does not read the paths in tsconfig.json'],
    [`import '#mail'`, {}, 'operations.js:1:9: Package import specifier', '"imports" in package.json'],
    [`import 'accepted/none'`, {}, 'operations.js:1:9: Package subpath', 'a path that the package exports'],
    [`import 'node:none'`, {}, 'operations.js:1:9: No such built-in module', 'Correct the name'],
    [`import 'https://example.com/a.js'`, {}, 'operations.js:1:9: Only URLs', 'import it by its name'],
    [`import './a.js'`, { 'a.js': `\nimport './x.json'`, 'x.json': '{}' }, 'a.js:2:9: Module', "{ type: 'json' }"],
    [`import './x.tsx'`, { 'x.tsx': '' }, 'operations.js:1:9: Unknown file extension', '.mts, .cts or .json'],
  ] as const) {
    const err = await fail(t, operations, files as Record<string, string>)
    t.ok(err.startsWith(`error: ${start}`), err)
    t.ok(err.includes(advice), err)
    t.equal(err.trimEnd().split('\n').length, 1, err)
  }
})

t.test('a mistake in a JSON file is reported with its place', async (t) => {
  const err = await fail(t, `import x from './x.json' with { type: 'json' }`, { 'x.json': '{\n  "a": 1,\n  b\n}' })
  t.match(err, /^error: x\.json:3:3: Expected double-quoted property name/)
})

t.test('syntax that Node.js cannot strip is reported with its place and a way out', async (t) => {
  for (const [source, place] of [
    ['export enum Color { Red }', '1:8'],
    ['\nnamespace A { export const b = 1 }', '2:1'],
    ['class A { constructor(private b: number) {} }', '1:31'],
  ] as const) {
    const err = await fail(t, `import './a.ts'`, { 'a.ts': source })
    t.ok(err.startsWith(`error: a.ts:${place}: `), err)
    t.match(err.split('\n', 1)[0], /or compile the app/)
    t.match(err, /\n {4}at /)
  }
  const err = await fail(t, `import './a.ts'`, { 'a.ts': `import { B } from './b.ts'`, 'b.ts': 'export type B = 1' })
  t.match(err, /^error: a\.ts:1:10: .* write: import \{ type B \}\n/)
})

t.test('a thrown value that is no error is reported with its place', async (t) => {
  for (const [source, message] of [
    ["throw 'no mailer'", 'the module threw no mailer'],
    ['throw undefined', 'the module threw undefined'],
    ['throw Object.create(null)', 'the module threw [Object: null prototype] {}'],
    ["throw { code: 1, password: 'pa55' }", 'the module threw { code: 1, password: *** }'],
  ] as const) {
    const err = await fail(t, `import './a.js'`, { 'a.js': `\n  ${source}` })
    t.equal(err, `error: a.js:2:3: ${message}\n`)
  }
})

t.test('the causes of an error are printed, and the place may be that of a cause', async (t) => {
  const caused = await fail(t, "throw new Error('outer', { cause: new Error('inner') })")
  t.match(caused, /^error: operations\.js:1:7: outer\nError: outer\n {4}at [\s\S]*\nCaused by: Error: inner\n {4}at /)
  const all = await fail(t, "\nawait Promise.any([Promise.reject(new Error('a')), Promise.reject(new Error('b'))])")
  t.match(
    all,
    /^error: operations\.js:2:35: All promises were rejected\n[\s\S]*Caused by: Error: a\n[\s\S]*Caused by: Error: b\n/,
  )
})

t.test('a module that never ends loading is reported with its place', async (t) => {
  t.match(
    await fail(t, '\nconst a = await new Promise(() => {})'),
    /^error: operations\.js:2:1: loading never ends\. .*\n$/,
  )
})

t.test('an app that is compiled to CommonJS starts', async (t) => {
  const files = {
    'package.json': '{"type":"commonjs"}',
    'accepted.config.js': `Object.defineProperty(exports, '__esModule', { value: true })
      exports.default = { operations: require('./operations.js'), handlers: './handlers.js' }`,
  }
  const operations = `Object.defineProperty(exports, '__esModule', { value: true })
    exports.say = require('accepted').defineOperation({ name: 'word.say', input: require('typebox').Type.Object({}) })`
  t.match(await fail(t, operations, files), /^error: Postgres does not answer/)
})

t.test('an ES module in a package of CommonJS is reported in one sentence', async (t) => {
  t.match(
    await fail(t, '', { 'package.json': '{ "type": "commonjs" }' }),
    /^error: accepted\.config\.js:2:5: this is an ES module: set "type": "module" in [^\n]*package\.json\n$/,
  )
})

t.test('a misspelt option or one of the wrong type is reported with its place and what was meant', async (t) => {
  const operation = (options: string) => `import { defineOperation, defineSchedule } from 'accepted'
    import Type from 'typebox'
    export const say = defineOperation({ name: 'word.say', input: Type.Object({}), ${options} })`
  const schedule = (options: string) => `${operation('')}
    export const daily = defineSchedule({ name: 'daily', operation: say, payload: {}, ${options} })`
  for (const [source, line, message] of [
    [operation('timeout: 5'), 3, "no option 'timeout'. Did you mean 'timeoutSeconds'?"],
    [operation('retries: 3'), 3, "no option 'retries'. Did you mean 'retry'?"],
    [operation('retry: { limits: 3 }'), 3, "no option 'limits'. Did you mean 'limit'?"],
    [operation("retry: { backoff: 'yes' }"), 3, 'retry.backoff must be true or false'],
    [operation("route: '/words'"), 3, 'route must be of type object'],
    [operation("route: { url: '/words' }"), 3, 'route.method must be one of POST, PUT, PATCH, DELETE, not undefined'],
    [operation("route: { method: 'POST' }"), 3, "route.url must start with '/'"],
    [operation('input: undefined'), 3, 'input must be a TypeBox schema'],
    [operation("idempotencyKey: 'require'"), 3, "idempotencyKey must be 'optional' or 'required', not 'require'"],
    [operation('accept: 5'), 3, 'accept must be of type function'],
    [schedule("crons: '@daily'"), 4, "no option 'crons'. Did you mean 'cron'?"],
    [schedule('cron: 5'), 4, 'cron must have five or six fields'],
    [schedule("cron: '@daily', operation: 'word.say'"), 4, 'operation must be the value of defineOperation'],
  ] as const) {
    const err = await fail(t, source)
    t.match(err, new RegExp(`^error: operations\\.js:${line}:\\d+: `))
    t.ok(err.includes(message), err)
    t.equal(err.trimEnd().split('\n').length, 1, err)
  }
})

t.test('a configuration that lacks a member, or whose operations are wrong, is named', async (t) => {
  const config = (members: string) => ({
    'accepted.config.js': `import * as operations from './operations.js'\nexport default { ${members} }`,
  })
  for (const [members, message] of [
    ['operations', "'handlers' is missing. Add it, for example handlers: './handlers.ts'"],
    ["handlers: './handlers.js'", "'operations' is missing. Add it, for example import * as operations"],
    ["operations, handlers: './handlers.js'", 'The operations module exports no operation'],
    ["operations, handlers: './handlers.js', migration: './sql'", "Did you mean 'migrations'?"],
  ] as const) {
    const err = await fail(t, 'export const a = 1', config(members))
    t.match(err, /^error: accepted\.config\.js.*\n$/)
    t.ok(err.includes(message), err)
  }
})
