"""Short words that stand beside each other in harmless texts: "pen is" is two words, "mur der" is one that was taken apart."""

from typing import Final

_ENGLISH: Final = """
a able act add age ago aid aim air al ale all also an and any ape apt arc are area arm army art as ash ask at ate away axe back
bad bag bake ball ban bar base bat bath bay be beach bear bed bee been beer bell belt bend best big bin bird bit bite black
blood blue boa boat body bold bomb bone book boot born both bow box boy break bright bring brown bug bus busy but buy by cab
cake call calm camp can cap car card care case cat chair chest child chin city clay clean clear clock close cloud club coal
coast coat cod code cold come con cook cool cop core corn cost cow crop cross cry cub cup cut dad dam damp dark date day dead
deal dear deep deer den desk dew did die dig dim dinner dip dirt disc dish do dock dog doll done door dot down draw dress drink
drive drop drum dry duck due dust each ear earth east easy eat echo edge egg ego elf elk else end era etch even ever every ex
eye face fact fair fall fan far farm fast fat feed feel feet felt few fig file fill film fin find fine fire fish fit five flag
flat flow fly foam fog foot for form fort four fox free from front fruit full fun fur game gap garden gas gate gave gear get
gift girl give glad glass go goat gold good got grand grass gray great green grew grey grin grow gun gut had hair half hall ham
hand hang happy hard has hat have hay he head hear heart heat hen her here hero hi hid high hill him hip his hit hold hole home
hood hook hop horn horse hot hour house how hug huge hum hunt hut i ice if ill in ink inn into iron is island it item its ivy
jam jar jaw jet job join joy jump just keen keep key kid kin kind king kit knee knew knife know lab lace lad lady laid lake lamb
lamp land lane lap large last late law lawn lay lead leaf left leg lens less let lid lie life lift light like lime line lion lip
list lit live log long look loop lot loud love low lung made mail main make male man mango many map mare mark mask mass mast mat
mate may me meal men met mid mild milk mill mind mint miss mist mix moon more moss most moth move much mud mug music must my
nail name nap near neat neck nest net new next nice night nine no node none noon nor nose not note now nut oak oar oat odd of
off oil old on once one only or orange ore other our out oval oven over owl own ox pack pad page pain pair pale palm pan park
part party past pat path paw pay pea peak pear pen pet pie pier pig pile pin pine pink pipe pit plan plane play plum poet pole
pond pony pool pop port pose post pot pour pray press price pro pub pull pup pure put queen quick rabbit race rag rain ram ran
rare rat raw ray reach read real red rest rice rich ride right ring rise road rock rod roll roof room root rope rose round row
rub rug run rust sad safe sage sail salt same sand sat saw say sea seal seat see seed self sell send set seven shade she shed
ship shirt shoe shop shore short show shut side sign silk sin sing sit site six size ski skin sky sleep slim slip slow small
snow so soap sock soft soil some son song soon soul soup south sow spa space spin spot spring star stay stem step stick still
stone stop store storm street sum summer sun swan sweet swim table tag tail take tale talk tall tan tap tar task tax tea team
tear tell ten tent term text than that the their them then there these they thin thing think this those three tide tie tiger
tight time tin tip tire to toad today toe told tomb ton too took tool top tour town toy train tray tree trip truck true try tub
tug tune turn twin two under until up upon urn us use van vase very vet view vine wall want war warm was wash wasp water wave
way we weak wear web week well went were west wet what wheel when where which white who why wide wife wig wild will win wind
window wine wing winter wire wise wish with wolf woman won wood wool word work world worm year yellow yes yet you young your
zero zoo
"""
_OTHERS: Final = """
am auf aus bei das dem den der des die du ein er es ich ihr im ins ist kein mit nach nu ob ohne sie um und uns vom von vor wie
wo zu zum zur au aux ce cette de du elle en est et eux il je la le les leur lui mais mon ne nous on ont ou par pas plus pour qui
sa sans se ses son sous sur te tu un une vous y al como con cual del desde donde e el ella era ese esta este ha hay lo los mas
mi muy ni nos o otra para pero por que sea sin sobre soy su sus tal todo u unas uno unos va ya da di il lei ma nel per san santa
"""
ENGLISH_WORDS: Final = frozenset(_ENGLISH.split())
COMMON_WORDS: Final = ENGLISH_WORDS | frozenset(_OTHERS.split())
"""English, and words of German, French, Spanish and Italian without which hardly a sentence is written."""
