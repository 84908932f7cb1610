import { playDocs } from './play-pages.ts'

playDocs()
