import t from 'tap'
import { printMigration } from '../../src/migrate/migrate.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { messageOf, migrationsDirectory, runMigrate } from './support.ts'

const createA = 'create table a (id integer);'

/** Runs one file of the app. Returns the result, and the tables and records that are left. */
async function runFile(t: Parameters<typeof createDatabase>[0], text: string, name = '0001_a.sql') {
  const url = await createDatabase(t)
  await queryOnce(url, 'delete from accepted.app_migration')
  const appMigrations = await migrationsDirectory(t, { [name]: text })
  let reported: string[] = []
  const message = await messageOf(
    runMigrate({ url, appMigrations }).then((names) => {
      reported = names
    }),
  )
  const [{ tables }] = await queryOnce(
    url,
    "select array_agg(relname order by relname)::text[] as tables from pg_class where relname in ('a', 'b')",
  )
  const recorded = (await queryOnce(url, 'select name from accepted.app_migration')).map(({ name }) => name)
  t.same(recorded, reported, 'what is reported is committed')
  return { message, tables, recorded, url, appMigrations }
}

for (const [begin, commit] of [
  ['begin;', 'commit;'],
  ['-- first\nSTART TRANSACTION;', 'END WORK -- last'],
]) {
  t.test(`${begin} and ${commit} around a file are those of its own transaction`, async (t) => {
    const text = `${begin}\n${createA}\n${commit}\n`
    t.match(await runFile(t, text), { message: 'no error', tables: ['a'], recorded: ['0001_a'] })
    const failed = await runFile(t, `${begin}\n${createA}\nselect nothing;\n${commit}\n`)
    t.match(failed.message, /column "nothing" does not exist, at line \d, column 8\. Nothing of it was applied\.$/)
    t.match(failed, { tables: null, recorded: [] })
    const printed = await printMigration(failed)
    t.equal(printed.match(/^\s*(?:begin|start transaction|commit|end work)\b/gim)?.length, 2, 'printed once each')
  })
}

for (const [what, text, expected] of [
  ['ROLLBACK', `${createA}\nrollback;\ncreate table b (id integer);`, /contains ROLLBACK, .* at line 2, column 1\./],
  ['COMMIT in the middle', `${createA}\ncommit;\nselect 1 / 0;`, /contains COMMIT, .* at line 2, column 1\. Remove/],
  ['BEGIN without COMMIT', `begin;\n${createA}`, /contains BEGIN, .* at line 1, column 1\./],
  ['PREPARE TRANSACTION', `${createA}\nprepare transaction 'a';`, /contains PREPARE TRANSACTION, /],
  [
    'a command of psql',
    `${createA}\n\\i other.sql\n`,
    /contains a command of psql, at line 2, column 1\. Write it in SQL\.$/,
  ],
  [
    'rows for COPY',
    `${createA}\ncopy a from stdin;\n1\n\\.\n`,
    /copies rows through psql, at line 2, .* INSERT statement\.$/,
  ],
  ['a NUL character', `${createA}\0`, /contains a NUL character, .* Save it as UTF-8\.$/],
  [
    'a transaction left open',
    `-- accepted: no transaction\nbegin;\n${createA}`,
    /leaves a transaction open\. .* Add COMMIT\.$/,
  ],
] as const) {
  t.test(`${what} in a file is refused with one sentence, and nothing is applied`, async (t) => {
    const { message, tables, recorded } = await runFile(t, text)
    t.match(message, expected)
    t.same([tables, recorded], [null, []])
  })
}

t.test('savepoints in a file work', async (t) => {
  const text = `savepoint one;\n${createA}\nrollback to one;\ncreate table b (id integer);\nrelease one;`
  t.match(await runFile(t, text), { message: 'no error', tables: ['b'], recorded: ['0001_a'] })
})

t.test('a statement that cannot run in a transaction says which line is missing', async (t) => {
  const index = 'create index concurrently a_id on a (id);'
  const { message } = await runFile(t, `${createA}\n${index}`)
  t.match(message, /at line 2, column 1\. Put the line `-- accepted: no transaction` at the top of the file\./)
  for (const comment of ['-- accepted: no transaction', '/* Index */\n  --accepted:  no transaction ']) {
    t.match(await runFile(t, `${comment}\n${createA}\n${index}`), { message: 'no error', tables: ['a'] })
  }
})

t.test('a file may leave another user of the session', async (t) => {
  t.match(await runFile(t, `${createA}\nset session authorization pg_monitor;`), { message: 'no error', tables: ['a'] })
})

for (const name of ['0001-a.sql', '1_a.sql', 'V1__a.sql', '0001_A.sql', '0001_a.SQL']) {
  t.test(`a file named ${name} is refused, because it would not run`, async (t) => {
    const { message } = await runFile(t, createA, name)
    t.match(message, /has a name that is not like 0001_create_todo\.sql .* Rename it\.$/)
  })
}
