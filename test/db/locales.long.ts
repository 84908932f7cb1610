import t, { type Test } from 'tap'
import { migrate } from '../../src/migrate/migrate.ts'
import { messageOf, runMigrate } from '../migrate/support.ts'
import { queryOnce } from '../support/database.ts'
import { checkEnqueue, checkMainFlow, createTables, startApi, startWorker } from './main-flow.ts'
import { createOddDatabase, findObstacle, recreateDatabase } from './odd-database.ts'

/** Databases in which the main flow works. */
const accepted: Readonly<Record<string, string>> = {
  'the locale C': "locale_provider libc locale 'C'",
  'the locale C.UTF-8 of the operating system': "locale_provider libc locale 'C.UTF-8'",
  'the locale of the USA': "locale_provider libc locale 'en_US.UTF-8'",
  'the locale of Germany': "locale_provider libc locale 'de_DE.UTF-8'",
  // In the locales of Turkish, the lower case of I is not i.
  'the locale of Turkey': "locale_provider libc locale 'tr_TR.UTF-8'",
  'an ICU locale': "locale_provider icu icu_locale 'de-DE' locale 'C'",
  'the ICU locale of Turkish': "locale_provider icu icu_locale 'tr-TR' locale 'C'",
  // It sorts upper case first, and numbers by their value.
  'an ICU locale with another order': "locale_provider icu icu_locale 'en-u-kf-upper-kn-true' locale 'C'",
  'an ICU locale of another script': "locale_provider icu icu_locale 'ja-JP-u-co-unihan' locale 'C'",
  'the builtin locale C.UTF-8': "locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'",
  'the builtin locale PG_UNICODE_FAST': "locale_provider builtin builtin_locale 'PG_UNICODE_FAST' locale 'C'",
}

/** Encodings that cannot hold every text. */
const refused: readonly string[] = ['LATIN1', 'LATIN9', 'WIN1252', 'SQL_ASCII', 'EUC_JP', 'KOI8R', 'MULE_INTERNAL']

/** Postgres cannot convert them from UTF8, so node-postgres cannot connect. */
const unreadable: readonly string[] = ['MULE_INTERNAL']

// Before the first test, because tap ends a file whose tests have ended.
const rows: { what: string; clause: string; skip: string | false }[] = []
for (const [what, locale] of Object.entries(accepted)) {
  const clause = `encoding 'UTF8' ${locale}`
  rows.push({ what, clause, skip: (await findObstacle(t, clause)) ?? false })
}

for (const { what, clause, skip } of rows) {
  t.test(`with ${what}, every answer of the main flow is right`, { skip }, async (t) => {
    const { url, adminUrl } = await createOddDatabase(t, clause)
    await checkEverything(t, url, adminUrl)
  })
}

t.test('with a collation for which different texts are equal, the columns of the app change no answer', async (t) => {
  const { url, adminUrl } = await createOddDatabase(t)
  await queryOnce(
    adminUrl,
    "create collation public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
  )
  const looseTables = createTables.replaceAll('word text', 'word text collate public.loose')
  await checkEverything(t, url, adminUrl, looseTables)
})

async function checkEverything(t: Test, url: string, adminUrl: string, tables = createTables): Promise<void> {
  t.same(await runMigrate({ url }), ['0001_accepted'])
  t.same(await runMigrate({ url }), [])
  await queryOnce(url, tables)
  await startWorker(t, url)
  const api = await startApi(t, url)
  await checkMainFlow(t, api.url, adminUrl)
  await checkEnqueue(t, api, url)
}

for (const encoding of refused) {
  t.test(`with the encoding ${encoding}, every program refuses to start with one sentence`, async (t) => {
    const url = await recreateDatabase(t, `encoding '${encoding}' locale_provider libc locale 'C'`)
    const name = new URL(url).pathname.slice(1)
    const reason = `The database ${name} has the encoding ${encoding}, but Accepted needs UTF8`
    const expected = `^${reason}\\. Create it with: .*\\.$`
    for (const start of [() => migrate({ url }), () => startApi(t, url), () => startWorker(t, url)]) {
      t.match(await messageOf(start()), new RegExp(expected))
    }
    if (unreadable.includes(encoding)) return
    const created = await queryOnce(url, "select nspname from pg_namespace where nspname ~ '^accepted'")
    t.same(created, [])
  })
}
