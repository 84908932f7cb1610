#!/usr/bin/env node
// `npm create accepted my-app` runs `accepted init my-app`.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const manifest = createRequire(import.meta.url).resolve('accepted/package.json')
const { bin } = JSON.parse(readFileSync(manifest, 'utf8'))
process.argv.splice(2, 0, 'init')
await import(pathToFileURL(join(dirname(manifest), bin.accepted)).href)
