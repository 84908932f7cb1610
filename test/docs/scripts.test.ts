import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parsePage, readPages, root } from './markdown.ts'
import { helpOf, namesOption, optionsOf, runScript, scriptCallsOf, scripts, scriptsOfNewApp } from './scripts.ts'

const calls = readPages().flatMap((page) => scriptCallsOf(page).map((call) => ({ ...call, page: page.name })))

t.test('every npm script that a page names exists', async (t) => {
  t.ok(calls.length > 0)
  for (const { page, command, script } of calls)
    t.ok(script in scripts || script in scriptsOfNewApp, `${page}: ${command}`)
})

t.test('every option that a page passes to a script is in the help of the script', async (t) => {
  const withOptions = calls.filter((call) => optionsOf(call).length > 0)
  t.ok(withOptions.length > 0)
  for (const call of withOptions) {
    const help = await helpOf(call)
    for (const option of optionsOf(call)) t.ok(namesOption(help, option), `${call.page}: ${option} in ${call.command}`)
  }
})

t.test('every test file that a page passes to a script exists', async (t) => {
  const files = calls.flatMap(({ page, args }) =>
    args.filter((arg) => arg.startsWith('test/')).map((file) => [page, file]),
  )
  t.ok(files.length > 0)
  for (const [page = '', file = ''] of files) t.ok(existsSync(join(root, file)), `${page}: ${file}`)
})

t.test('npm scripts and their options are found in code blocks and in sentences', async (t) => {
  const page = parsePage(
    'x.md',
    "Run `A=1 npm run a:b -- <x> --y 1`, or (npm run not-code).\n```sh illustration\nnpm test -- f.ts -g '/a b/' # c\n```\n",
  )
  const found = scriptCallsOf(page).map((call) => ({ script: call.script, options: optionsOf(call) }))
  t.same(found, [
    { script: 'test', options: ['-g'] },
    { script: 'a:b', options: ['--y'] },
  ])
  t.ok(namesOption('  -g<x> --grep=<x>', '--grep'))
  t.notOk(namesOption('  --grepped', '--grep'))
})

/** The scripts that parse their own options. */
const programs = Object.keys(scripts).filter((name) => /\b(bench|test\/fault)\/\w+\.ts/.test(scripts[name] ?? ''))

t.test(
  'with --help, bench and test:fault print their usage; with an unknown option, they exit with code 2',
  async (t) => {
    t.ok(programs.length > 1)
    for (const script of programs) {
      const [help, refusal] = await Promise.all([
        runScript(script, ['--help']),
        runScript(script, ['--no-such-option']),
      ])
      t.equal(help.code, 0, script)
      t.match(help.out, new RegExp(`^Usage: npm run ${script} -- `), script)
      t.equal(refusal.code, 2, script)
      t.match(refusal.err, `error: Unknown option '--no-such-option'\n`, script)
      t.match(refusal.err, `npm run ${script} -- --help`, script)
    }
  },
)
