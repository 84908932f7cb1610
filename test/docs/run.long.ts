import { playPages } from './play-pages.ts'

playPages((name) => name.startsWith('docs/'))
